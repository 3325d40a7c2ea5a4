//! Quota: an upper bound of a call's cost is held before the call is made, and the actual cost is settled after it.
//!
//! A hold is taken from all limits of an account in one atomic step, and written to the journal before the first byte
//! goes to the provider. A call that does not fit is refused. So an account never spends more than its allowance,
//! however many calls it makes concurrently. A hold that a crash left in the journal is settled at the next start.
//!
//! `prices` computes the cost of calls. `admission` decides in memory whether a call may be made. `ledger` makes the
//! result durable: a write-ahead log, receipts in a hash chain, and their sums in the database. `reports` reads those
//! sums. Each module uses only those named before it.

pub mod admission;
mod calendar;
mod entities;
pub mod ledger;
pub mod prices;
mod registration;
pub mod reports;

use std::sync::Arc;

pub use admission::{Admission, BudgetCall, OwnKeyCall, Refusal};
pub use calendar::{Day, DayRange, Month, Period};
pub use ledger::{Hold, Ledger, Receipt};
pub use prices::{CallOutcome, PriceTables, dollars};
pub use registration::{QuotaModule, money_findings};
pub use reports::Reports;

use crate::config::Config;
use crate::db::Db;
use admission::{FittedCall, Fitting};
use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_ground::secrets::InstallationKeys;

/// The budgets of accounts for AI calls, and their spending.
#[derive(Clone)]
pub struct Quota {
    /// Which price table is in force, and the others.
    pub prices: Arc<PriceTables>,
    /// Limits and credit of accounts.
    pub admission: Arc<Admission>,
    /// Receipts and their corrections.
    pub ledger: Arc<Ledger>,
    /// Sums of spending, and the remainders of the limits.
    pub reports: Arc<Reports>,
}

impl Quota {
    /// Opens every part and writes nothing. The platform that makes calls then calls [`Quota::begin`]; a command of
    /// the operator does not, and its settings may differ from the platform's.
    ///
    /// # Errors
    /// When the built-in price table cannot be read.
    pub fn open(db: Db, clock: Clock, keys: &InstallationKeys, config: &Config) -> Result<Self> {
        let prices = Arc::new(PriceTables::open(db.clone(), clock.clone(), config)?);
        let admission = Arc::new(Admission::new(db, clock, Arc::clone(&prices), config.limits));
        let ledger = Arc::new(Ledger::new(&admission, keys, config));
        let reports = Arc::new(Reports::new(&admission, &ledger));
        Ok(Self { prices, admission, ledger, reports })
    }

    /// Makes the ledger ready for calls; call it once, before the first. Imports the price table, and settles what a
    /// crash left in the journal, so that no hold from before the crash stays open and causes refusals. Another
    /// platform that has the ledger of the same database open admits no calls any more.
    ///
    /// # Errors
    /// When the database does not answer, or another platform of this machine has the journal open.
    pub async fn begin(&self) -> anyhow::Result<()> {
        self.ledger.begin().await?;
        self.admission.begin();
        Ok(())
    }

    /// Holds the most that `call` can cost. When this returns, the intent is in the journal and outlives this process,
    /// and the call may be made.
    ///
    /// # Errors
    /// The reason of the refusal. A call that ended before this one came is never the reason.
    pub async fn admit(&self, call: BudgetCall) -> std::result::Result<Hold, Refusal> {
        Ok(self.hold(call, Fitting::AsItIs).await?.0)
    }

    /// Holds the most that `call` can cost. Where its answer does not fit, the answer is shortened to the longest that
    /// the remainders of all limits buy, and its length in tokens is returned. Both are one atomic step, so that
    /// concurrent calls do not share the same remainder.
    ///
    /// # Errors
    /// The reason of the refusal, where an answer of `least` tokens does not fit either.
    pub async fn admit_shortened(
        &self,
        call: BudgetCall,
        least: u64,
    ) -> std::result::Result<(Hold, Option<u64>), Refusal> {
        self.hold(call, Fitting::Shortened { least }).await
    }

    async fn hold(&self, call: BudgetCall, fitting: Fitting) -> std::result::Result<(Hold, Option<u64>), Refusal> {
        let call = self.admission.bound(call)?;
        let ledger = self.ledger.open()?;
        let FittedCall { admitted, shortened_to } = self.admission.admit(call, fitting).await?;
        // No await between the two: a task that is cancelled here owns either nothing or the `Hold`, whose drop
        // settles.
        Ok((Hold::begin(ledger, admitted)?, shortened_to))
    }

    /// Takes a place for `call` and holds no money. When this returns, the intent is in the journal and outlives this
    /// process, and the call may be made.
    ///
    /// # Errors
    /// When the limit of concurrent calls is reached, or the ledger cannot be read or written.
    pub async fn admit_under_own_key(&self, call: OwnKeyCall) -> std::result::Result<Hold, Refusal> {
        let ledger = self.ledger.open()?;
        let admitted = self.admission.admit_under_own_key(call).await?;
        // No await between the two, as in `hold`.
        Hold::begin(ledger, admitted)
    }

    /// Returns when every call that ended before now has its receipt in the database, or after two seconds. For tests,
    /// for pages that show recent spending, and for an orderly stop.
    pub async fn settled(&self) {
        self.ledger.settled().await;
    }

    /// Compares receipts, sums by day and sums by month. Returns a sentence for each difference; `doctor` and tests
    /// expect none.
    pub async fn disagreements(&self) -> Result<Vec<String>> {
        // One snapshot: calls that settle between two statements would look like differences.
        ledger::disagreements(&self.admission.db.begin_reading().await?).await
    }
}
