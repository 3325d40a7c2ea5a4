//! What all accounts spend, for the operator: sums of a month, accounts in pages, and the providers' bills beside them.

use std::sync::{Arc, Mutex, PoisonError};

use super::bill_comparison::{self, Drift};
use crate::db::AccountId;
use crate::error::{Error, Result};
use crate::quota::admission::books::Account;
use crate::quota::calendar::{self, Days, Month};
use crate::quota::store::{self, Order, Whose};
use crate::quota::{Inner, ModelSpend, MonthSum, Quota, Sum, lock};

/// Accounts of one page.
pub const A_PAGE: u64 = 50;

/// What all accounts did in one month.
#[derive(Clone, Debug)]
pub struct Everybody {
    pub spent_nanodollars: i64,
    /// Accounts that made a call.
    pub accounts: i64,
    /// Of these, how many spent at least four fifths of their allowance.
    pub nearly_spent: i64,
    /// Days with calls, in their order.
    pub by_day: Vec<Sum>,
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
}

/// What one account did in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpend {
    pub account: AccountId,
    pub allowance_nanodollars: i64,
    pub spent_nanodollars: i64,
    pub today_nanodollars: i64,
    /// For calls in flight, by what this platform knows.
    pub held_nanodollars: i64,
}

impl Quota {
    /// What all accounts did in `month`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn everybody(&self, month: Month) -> Result<Everybody> {
        self.settled().await;
        let (db, days) = (self.0.db.read(), month.span());
        let (spent_nanodollars, accounts, nearly_spent) = store::month_of_all(db, &month.to_string()).await?;
        let mut by_day = store::spend_of_all_by_day(db, &days).await?;
        by_day.sort_by(|a, b| a.name.cmp(&b.name));
        let by_model = store::spend_by_model(db, Whose::Everybody, &days).await?;
        Ok(Everybody { spent_nanodollars, accounts, nearly_spent, by_day, by_model })
    }

    /// The accounts that made calls in `month`, page by page from 0.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn accounts_in(&self, month: Month, order: Order, page: u64) -> Result<Vec<AccountSpend>> {
        self.settled().await;
        let Inner { db, clock, .. } = &*self.0;
        let months = store::accounts_of_month(db.read(), &month.to_string(), order, (page * A_PAGE, A_PAGE)).await?;
        let day = calendar::day(clock.now());
        let today = store::spent_on_day(db.read(), months.iter().map(|(account, _)| *account), &day).await?;
        let row = |(account, month): (AccountId, MonthSum)| AccountSpend {
            account,
            allowance_nanodollars: month.allowance_nanodollars,
            spent_nanodollars: month.spent_nanodollars,
            today_nanodollars: today.get(&account).copied().unwrap_or(0),
            held_nanodollars: self.0.known(account).map_or(0, |books| lock(&books).month().held_nanodollars),
        };
        Ok(months.into_iter().map(row).collect())
    }

    /// What all accounts spent today.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spent_today_by_all(&self) -> Result<i64> {
        self.settled().await;
        let days = store::spend_of_all_by_day(self.0.db.read(), &Days::of(self.0.clock.now())).await?;
        Ok(days.iter().map(|day| day.amount_nanodollars).sum())
    }

    /// What is held for everybody's calls in flight, by what this platform knows.
    #[must_use]
    pub fn held_by_all(&self) -> i64 {
        self.0.all_known().iter().map(|books| lock(books).month().held_nanodollars).sum()
    }

    /// A provider's usage export beside what was booked, by day and model, the widest drift first. `drift` says which
    /// columns it needs.
    ///
    /// # Errors
    /// `Invalid` with a sentence when the export cannot be read; when the database does not answer.
    pub async fn compare(&self, export: &str) -> Result<Vec<Drift>> {
        self.settled().await;
        let bill = bill_comparison::read_bill(export).map_err(|sentence| Error::invalid("export", sentence))?;
        let Some(days) = bill_comparison::days(&bill) else { return Ok(Vec::new()) };
        Ok(bill_comparison::compare(&bill, &store::booked(self.0.db.read(), &days).await?))
    }
}

impl Inner {
    /// The account's books, if this platform opened them.
    fn known(&self, account: AccountId) -> Option<Arc<Mutex<Account>>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&account).cloned()
    }

    fn all_known(&self) -> Vec<Arc<Mutex<Account>>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
