//! Sums of spending by model, by agent, by day and by month.

use berth_ground::money::Nanodollars;
use serde::Serialize;

use crate::db::AccountId;
use crate::quota::calendar::{Day, Month};

/// The spending on one model in a month or on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelSpend {
    pub provider: String,
    pub model: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: Nanodollars,
}

/// The spending of one agent, or of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedSpend {
    pub name: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: Nanodollars,
}

/// Allowance and spending of an account in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MonthSpend {
    pub period: Month,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
}

/// Spending by model, agent and day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpendBreakdown {
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
    /// Dearest first; an empty name stands for calls that named no agent.
    pub by_agent: Vec<NamedSpend>,
    /// The spending of the agents that are not in `by_agent`.
    pub other_agents_nanodollars: Nanodollars,
    /// Days with calls, in their order.
    pub by_day: Vec<NamedSpend>,
}

impl SpendBreakdown {
    /// The total.
    #[must_use]
    pub fn total_nanodollars(&self) -> Nanodollars {
        self.by_day.iter().map(|day| day.amount_nanodollars).sum()
    }
}

/// The accounts that a sum of spending covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendScope {
    Account(AccountId),
    All,
}

/// The key by which spending is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendGroup {
    Agent,
    Day,
}

/// The order of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountOrder {
    /// Those that spent most.
    Dearest,
    /// Those that are nearest to their allowance, or furthest beyond it.
    Nearest,
}

/// Spending of all accounts in a month.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowanceTotals {
    pub spent_nanodollars: Nanodollars,
    /// Accounts that made a call.
    pub accounts: i64,
    /// Of these, how many spent at least four fifths of their allowance.
    pub nearly_spent: i64,
}

/// One account's month.
#[derive(Clone, Copy, Debug)]
pub struct AccountMonth {
    pub account: AccountId,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
}

/// The booked spending of one day and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedSpend {
    pub day: Day,
    pub provider: String,
    pub model: String,
    pub amount_nanodollars: Nanodollars,
}
