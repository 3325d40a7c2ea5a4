//! Sums for whoever looks: what is left, and what a month was spent on. From the books in memory and the sums by day;
//! no receipt is read for them.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::db::AccountId;
use crate::error::Result;
use crate::quota::admission::books::{Account, Rate};
use crate::quota::calendar::{self, Days, Month};
use crate::quota::store::{self, By, Whose};
use crate::quota::{ModelSpend, MonthSum, Quota, Sum};

/// How many agents are told apart: an agent may have a new name each time it runs.
const AGENTS_NAMED: u64 = 20;
/// Days of a month.
const MOST_DAYS: u64 = 31;
/// Months that are listed: ten years.
const MOST_MONTHS: u64 = 120;

/// What an account may still do with AI calls, this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The month in UTC, `2026-11`.
    pub period: String,
    pub allowance_nanodollars: i64,
    /// Given beyond the allowance and not used by earlier months.
    pub credit_nanodollars: i64,
    pub spent_nanodollars: i64,
    /// Held for calls in flight; not spendable meanwhile.
    pub held_nanodollars: i64,
    /// What may still be promised to calls: of the month, and of today where today has a limit.
    pub left_nanodollars: i64,
    /// The day on which the month's allowance is whole again, at midnight in UTC: `2026-12-01`.
    pub resets_on: String,
    pub today: Today,
    pub requests_a_minute: Option<RateLeft>,
    pub tokens_a_minute: Option<RateLeft>,
    pub calls_at_once: Places,
}

/// The money of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Today {
    /// `2026-11-25`, in UTC.
    pub day: String,
    /// `None`: the month's is all that limits it.
    pub allowance_nanodollars: Option<i64>,
    pub spent_nanodollars: i64,
    pub held_nanodollars: i64,
    pub left_nanodollars: Option<i64>,
    pub resets_on: String,
}

/// A limit a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLeft {
    pub limit: u32,
    pub remaining: u32,
    /// Until all of it is there again.
    pub full_in_seconds: u64,
}

/// Calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Places {
    pub limit: u32,
    pub in_flight: u32,
}

/// What some days were spent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
    /// Dearest first; an empty name is of calls that named no agent.
    pub by_agent: Vec<Sum>,
    /// What agents spent that are not named in `by_agent`.
    pub other_agents_nanodollars: i64,
    /// Days with calls, in their order.
    pub by_day: Vec<Sum>,
}

impl Sums {
    /// What all of it came to.
    #[must_use]
    pub fn total_nanodollars(&self) -> i64 {
        self.by_day.iter().map(|day| day.amount_nanodollars).sum()
    }
}

impl Quota {
    /// What `account` may still do just now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn left(&self, account: AccountId) -> Result<Left> {
        Ok(Left::of(&self.0.books(account).await?, self.0.clock.now()))
    }

    /// The present month.
    #[must_use]
    pub fn this_month(&self) -> Month {
        Month::of(self.0.clock.now())
    }

    /// What `account` spent `month` on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spent_in(&self, account: AccountId, month: Month) -> Result<Sums> {
        self.sums(account, &month.span()).await
    }

    /// What `account` spent today on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spent_today(&self, account: AccountId) -> Result<Sums> {
        self.sums(account, &Days::of(self.0.clock.now())).await
    }

    /// The months in which `account` made calls, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn months(&self, account: AccountId) -> Result<Vec<MonthSum>> {
        self.settled().await;
        store::months(self.0.db.read(), account, MOST_MONTHS).await
    }

    async fn sums(&self, account: AccountId, days: &Days) -> Result<Sums> {
        self.settled().await;
        let db = self.0.db.read();
        let mut by_day = store::spend_by(db, account, days, By::Day, MOST_DAYS).await?;
        by_day.sort_by(|a, b| a.name.cmp(&b.name));
        let mut sums = Sums {
            by_model: store::spend_by_model(db, Whose::One(account), days).await?,
            by_agent: store::spend_by(db, account, days, By::Agent, AGENTS_NAMED).await?,
            other_agents_nanodollars: 0,
            by_day,
        };
        let named: i64 = sums.by_agent.iter().map(|agent| agent.amount_nanodollars).sum();
        sums.other_agents_nanodollars = sums.total_nanodollars() - named;
        Ok(sums)
    }
}

impl Left {
    fn of(books: &Account, now: Timestamp) -> Self {
        let (month, day) = (books.month(), books.today());
        let (requests, tokens) = books.rates();
        Self {
            period: month.name.clone(),
            allowance_nanodollars: books.limits().month_nanodollars,
            credit_nanodollars: books.credit(),
            spent_nanodollars: month.spent_nanodollars,
            held_nanodollars: month.held_nanodollars,
            left_nanodollars: books.left(),
            resets_on: calendar::next_month(now),
            today: Today {
                day: day.name.clone(),
                allowance_nanodollars: books.limits().day_nanodollars,
                spent_nanodollars: day.spent_nanodollars,
                held_nanodollars: day.held_nanodollars,
                left_nanodollars: books.left_today(),
                resets_on: calendar::tomorrow(now),
            },
            requests_a_minute: requests.map(Into::into),
            tokens_a_minute: tokens.map(Into::into),
            calls_at_once: Places { limit: books.limits().calls_at_once, in_flight: books.in_flight() },
        }
    }
}

impl From<Rate> for RateLeft {
    fn from(rate: Rate) -> Self {
        // Rounded up: then it is full.
        let full_in_seconds = rate.full_in.as_millis().div_ceil(1000);
        Self {
            limit: rate.limit,
            remaining: rate.remaining,
            full_in_seconds: u64::try_from(full_in_seconds).unwrap_or(u64::MAX),
        }
    }
}
