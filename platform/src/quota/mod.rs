//! Quota: what a call may cost is held before it is made, and what it did cost is settled after.
//!
//! A hold is an upper bound, taken from all of an account's limits in one step, and written to the journal before the
//! first byte goes to the provider. What does not fit is refused. So an account can never spend more than its
//! allowance, however many calls it makes at once; and a hold that a crash left behind is settled at the next start,
//! so nothing stays held for nothing.
//!
//! `prices` knows what calls cost. `admission` decides in this process's memory whether one may be made. `ledger`
//! remembers: a write-ahead log, and in the database receipts in a hash chain, with their sums. `reports` reads those
//! sums. Each uses those named before it.

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
pub use registration::QuotaModule;
pub use reports::Reports;

use crate::config::Config;
use crate::db::Db;
use admission::{FittedCall, Fitting};
use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_ground::secrets::InstallationKeys;

/// What accounts may spend on AI calls, and what they spent.
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
    /// Opens everything and changes nothing. The platform that makes calls then says so with [`Quota::begin`]; a
    /// command of the operator does not, and its settings may be others than the platform's.
    ///
    /// # Errors
    /// When the price table that was built in cannot be read.
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

    /// Holds what `call` can cost at most. After this returns the intent outlives this process, and the call may be
    /// made.
    ///
    /// # Errors
    /// Why the call may not be made. It is never refused because of a call that ended before it came.
    pub async fn admit(&self, call: BudgetCall) -> std::result::Result<Hold, Refusal> {
        Ok(self.hold(call, Fitting::AsItIs).await?.0)
    }

    /// Holds what `call` can cost at most, with the longest answer that the remainders of all limits buy where its own
    /// does not fit; how many tokens that is, if so. In one step, so that concurrent calls do not share the same
    /// remainder.
    ///
    /// # Errors
    /// Why the call may not be made as it is, where it would not fit with an answer of `least` tokens either.
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
        // No await between the two: a task that is dropped has either nothing or the hold.
        Ok((Hold::begin(ledger, admitted)?, shortened_to))
    }

    /// Takes a place for `call` and holds no money. After this returns the intent outlives this process, and the call
    /// may be made.
    ///
    /// # Errors
    /// When as many calls as may be are in flight, or the ledger cannot be read or written.
    pub async fn admit_under_own_key(&self, call: OwnKeyCall) -> std::result::Result<Hold, Refusal> {
        let ledger = self.ledger.open()?;
        let admitted = self.admission.admit_under_own_key(call).await?;
        // No await between the two, as in `hold`.
        Hold::begin(ledger, admitted)
    }

    /// Returns when every call that ended before now has its receipt in the database, or after two seconds. For tests,
    /// for pages that show what was just spent, and for an orderly stop.
    pub async fn settled(&self) {
        self.ledger.settled().await;
    }

    /// Whether the books agree: receipts, sums by day and sums by month. Returns a sentence for each that does not;
    /// `doctor` and tests expect none.
    pub async fn disagreements(&self) -> Result<Vec<String>> {
        // Calls go on meanwhile, and must not look like disagreements.
        ledger::disagreements(&self.admission.db.begin_reading().await?).await
    }
}
