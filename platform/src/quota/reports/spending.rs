//! Remaining budgets and spending for pages and commands, from the books in memory and the sums by day. No receipt is
//! read.

use std::sync::Arc;

use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_ground::money::Nanodollars;

use super::budget::AccountBudget;
use super::store;
use super::sums::{ModelSpend, MonthSpend, SpendBreakdown, SpendGroup, SpendScope};
use crate::db::{AccountId, Db};
use crate::quota::admission::Admission;
use crate::quota::calendar::{Day, DayRange, Month};
use crate::quota::ledger::Ledger;

/// The most agents that are listed: an agent may have a new name each time it runs.
const AGENTS_NAMED: u64 = 20;
/// Days of a month.
const MOST_DAYS: u64 = 31;
/// Months that are listed: ten years.
const MOST_MONTHS: u64 = 120;

/// Spending and remaining budgets of accounts.
pub struct Reports {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) admission: Arc<Admission>,
    pub(super) ledger: Arc<Ledger>,
}

impl Reports {
    pub(in crate::quota) fn new(admission: &Arc<Admission>, ledger: &Arc<Ledger>) -> Self {
        let Admission { db, clock, .. } = &**admission;
        let (db, clock) = (db.clone(), clock.clone());
        Self { db, clock, admission: Arc::clone(admission), ledger: Arc::clone(ledger) }
    }

    /// The remaining budget of `account`.
    pub async fn budget(&self, account: AccountId) -> Result<AccountBudget> {
        Ok(AccountBudget::of(&self.admission.snapshot(account).await?, self.clock.now()))
    }

    /// The spending of `account` by model this month, dearest first.
    pub async fn models_this_month(&self, account: AccountId) -> Result<Vec<ModelSpend>> {
        self.ledger.settled().await;
        store::spend_by_model(self.db.read(), SpendScope::Account(account), &self.this_month().range()).await
    }

    /// The present month.
    #[must_use]
    pub fn this_month(&self) -> Month {
        Month::of(self.clock.now())
    }

    /// The spending of `account` in `month`.
    pub async fn spent_in(&self, account: AccountId, month: Month) -> Result<SpendBreakdown> {
        self.sums(account, &month.range()).await
    }

    /// The spending of `account` today.
    pub async fn spent_today(&self, account: AccountId) -> Result<SpendBreakdown> {
        self.sums(account, &Day::of(self.clock.now()).alone()).await
    }

    /// The months in which `account` made calls, the newest first.
    pub async fn months(&self, account: AccountId) -> Result<Vec<MonthSpend>> {
        self.ledger.settled().await;
        store::months(self.db.read(), account, MOST_MONTHS).await
    }

    async fn sums(&self, account: AccountId, days: &DayRange) -> Result<SpendBreakdown> {
        self.ledger.settled().await;
        let db = self.db.read();
        let mut by_day = store::spend_by(db, account, days, SpendGroup::Day, MOST_DAYS).await?;
        by_day.sort_by(|a, b| a.name.cmp(&b.name));
        let mut sums = SpendBreakdown {
            by_model: store::spend_by_model(db, SpendScope::Account(account), days).await?,
            by_agent: store::spend_by(db, account, days, SpendGroup::Agent, AGENTS_NAMED).await?,
            other_agents_nanodollars: Nanodollars::ZERO,
            by_day,
        };
        let named: Nanodollars = sums.by_agent.iter().map(|agent| agent.amount_nanodollars).sum();
        sums.other_agents_nanodollars = sums.total_nanodollars() - named;
        Ok(sums)
    }
}
