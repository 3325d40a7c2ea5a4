//! A budget alert: a threshold of an allowance that was reached.

use berth_ground::money::Nanodollars;
use serde::Serialize;

use crate::db::AccountId;
use crate::quota::calendar::Period;

/// A threshold of an allowance that spending reached; its owner is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetAlert {
    #[serde(skip)]
    pub account_id: AccountId,
    pub period: Period,
    pub percent: i64,
    pub allowance_nanodollars: Nanodollars,
    /// When it was raised.
    pub spent_nanodollars: Nanodollars,
    pub raised_at_ms: i64,
}
