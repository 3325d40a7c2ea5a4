//! A budget alert: a threshold of an allowance that was reached.

use serde::Serialize;

use crate::db::AccountId;

/// An allowance of which a part was spent that its owner is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetAlert {
    #[serde(skip)]
    pub account_id: AccountId,
    /// A month, `2026-11`, or a day, `2026-11-25`.
    pub period: String,
    pub percent: i64,
    pub allowance_nanodollars: i64,
    /// When it was raised.
    pub spent_nanodollars: i64,
    pub raised_at_ms: i64,
}

impl BudgetAlert {
    /// Whether it is about a month, and not about a day.
    #[must_use]
    pub fn is_of_month(&self) -> bool {
        self.period.len() == "2026-11".len()
    }
}
