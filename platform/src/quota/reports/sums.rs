//! Sums of what was spent: by model, by agent, by day and by month.

use serde::Serialize;

use crate::db::AccountId;
use crate::money::Nanodollars;
use crate::quota::calendar::{Day, Month};

/// What a month's or a day's calls of one model came to.
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

/// What something of one name came to: an agent, or a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedSpend {
    pub name: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: Nanodollars,
}

/// What an account could spend in a month, and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MonthSpend {
    pub period: Month,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
}

/// What some days were spent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpendBreakdown {
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
    /// Dearest first; an empty name is of calls that named no agent.
    pub by_agent: Vec<NamedSpend>,
    /// What agents spent that are not named in `by_agent`.
    pub other_agents_nanodollars: Nanodollars,
    /// Days with calls, in their order.
    pub by_day: Vec<NamedSpend>,
}

impl SpendBreakdown {
    /// What all of it came to.
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

/// What sums are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendGroup {
    Agent,
    Day,
}

/// Which accounts come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountOrder {
    /// Those that spent most.
    Dearest,
    /// Those that are nearest to their allowance, or furthest beyond it.
    Nearest,
}

/// What all accounts could spend and did spend in a month.
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

/// What was booked for one day and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedSpend {
    pub day: Day,
    pub provider: String,
    pub model: String,
    pub amount_nanodollars: Nanodollars,
}
