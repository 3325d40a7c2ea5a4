//! Spending of all accounts, for the operator: sums of a month, accounts in pages, and the comparison with providers'
//! bills.

use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;

use super::bill_comparison::{self, BillDifference};
use super::spending::Reports;
use super::store;
use super::sums::{AccountMonth, AccountOrder, AllowanceTotals, ModelSpend, NamedSpend, SpendScope};
use crate::db::AccountId;
use crate::quota::calendar::{Day, Month};

/// Accounts of one page.
pub const PAGE_SIZE: u64 = 50;

/// Spending of all accounts in one month.
#[derive(Clone, Debug)]
pub struct MonthTotals {
    pub spent_nanodollars: Nanodollars,
    /// Accounts that made a call.
    pub accounts: i64,
    /// Of these, how many spent at least four fifths of their allowance.
    pub nearly_spent: i64,
    /// Days with calls, in their order.
    pub by_day: Vec<NamedSpend>,
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
}

/// Spending of one account in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpend {
    pub account: AccountId,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
    pub today_nanodollars: Nanodollars,
    /// The holds of calls in flight, from the books in this platform's memory.
    pub held_nanodollars: Nanodollars,
}

impl Reports {
    /// The spending of all accounts in `month`.
    pub async fn month_totals(&self, month: Month) -> Result<MonthTotals> {
        self.ledger.settled().await;
        let (db, days) = (self.db.read(), month.range());
        let AllowanceTotals { spent_nanodollars, accounts, nearly_spent } = store::allowance_totals(db, month).await?;
        let mut by_day = store::spend_of_all_by_day(db, &days).await?;
        by_day.sort_by(|a, b| a.name.cmp(&b.name));
        let by_model = store::spend_by_model(db, SpendScope::All, &days).await?;
        Ok(MonthTotals { spent_nanodollars, accounts, nearly_spent, by_day, by_model })
    }

    /// The accounts that made calls in `month`, page by page from 0.
    pub async fn accounts_in(&self, month: Month, order: AccountOrder, page: u64) -> Result<Vec<AccountSpend>> {
        self.ledger.settled().await;
        let (db, skipped) = (self.db.read(), page * PAGE_SIZE);
        let months = store::accounts_of_month(db, month, order, skipped, PAGE_SIZE).await?;
        let today = store::spent_on_day(db, months.iter().map(|one| one.account), Day::of(self.clock.now())).await?;
        let row = |one: AccountMonth| AccountSpend {
            account: one.account,
            allowance_nanodollars: one.allowance_nanodollars,
            spent_nanodollars: one.spent_nanodollars,
            today_nanodollars: today.get(&one.account).copied().unwrap_or_default(),
            held_nanodollars: self
                .admission
                .opened(one.account)
                .map_or(Nanodollars::ZERO, |books| books.lock().month().held_nanodollars),
        };
        Ok(months.into_iter().map(row).collect())
    }

    /// The spending of all accounts today.
    pub async fn spent_today_by_all(&self) -> Result<Nanodollars> {
        self.ledger.settled().await;
        let days = store::spend_of_all_by_day(self.db.read(), &Day::of(self.clock.now()).alone()).await?;
        Ok(days.iter().map(|day| day.amount_nanodollars).sum())
    }

    /// The sum of the holds of all accounts' calls in flight, from the books in this platform's memory.
    #[must_use]
    pub fn held_by_all(&self) -> Nanodollars {
        self.admission.all_opened().iter().map(|books| books.lock().month().held_nanodollars).sum()
    }

    /// Compares a provider's usage export with the ledger, by day and model, the widest difference first.
    /// `bill_comparison` names the columns that it needs.
    ///
    /// # Errors
    /// `Invalid` with a sentence when the export cannot be read.
    pub async fn compare_bill(&self, export: &str) -> Result<Vec<BillDifference>> {
        self.ledger.settled().await;
        let bill = bill_comparison::read_bill(export).map_err(|sentence| Error::invalid("export", sentence))?;
        let Some(days) = bill_comparison::days(&bill) else { return Ok(Vec::new()) };
        Ok(bill_comparison::compare(&bill, &store::booked(self.db.read(), &days).await?))
    }
}
