//! Entries handed over to the ledger's writer: calls that are over, and corrections.

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use serde::{Deserialize, Serialize};

use super::intent::{Intent, Settlement};
use super::receipt::Receipt;
use crate::db::{AccountId, HoldId};
use crate::quota::calendar::{Day, Month};

/// A correction in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// The receipt, without its place in the chain.
    pub receipt: Box<Receipt>,
    /// The allowance of the corrected month.
    pub allowance_nanodollars: Nanodollars,
}

/// An entry that becomes a receipt.
#[derive(Clone, Debug)]
pub struct LedgerEntry {
    pub kind: EntryKind,
    /// The account's allowance for the month, shown beside its spending.
    pub allowance_nanodollars: Nanodollars,
    /// The day's allowance, where there is one. `None` also for recovered entries.
    pub day_allowance_nanodollars: Option<Nanodollars>,
}

/// A call that is over, or a correction of one, as a receipt that has no place in the chain yet.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls, and each is handed over in a box")]
pub enum EntryKind {
    Call { intent: Intent, settlement: Settlement },
    Correction(Box<Receipt>),
}

impl Correction {
    /// The entry for the ledger's writer.
    #[must_use]
    pub fn into_entry(self, day_allowance_nanodollars: Option<Nanodollars>) -> LedgerEntry {
        let Self { receipt, allowance_nanodollars } = self;
        LedgerEntry { kind: EntryKind::Correction(receipt), allowance_nanodollars, day_allowance_nanodollars }
    }
}

impl LedgerEntry {
    #[must_use]
    pub fn id(&self) -> HoldId {
        match &self.kind {
            EntryKind::Call { intent, .. } => intent.id,
            EntryKind::Correction(receipt) => receipt.id,
        }
    }

    #[must_use]
    pub fn account(&self) -> AccountId {
        match &self.kind {
            EntryKind::Call { intent, .. } => intent.account,
            EntryKind::Correction(receipt) => receipt.account_id,
        }
    }

    /// The month that it counts in.
    #[must_use]
    pub fn month(&self) -> Month {
        match &self.kind {
            EntryKind::Call { intent, .. } => intent.period,
            EntryKind::Correction(receipt) => receipt.period,
        }
    }

    /// The day that it counts on.
    #[must_use]
    pub fn day(&self) -> Day {
        match &self.kind {
            EntryKind::Call { intent, .. } => intent.day,
            EntryKind::Correction(receipt) => receipt.day,
        }
    }

    #[must_use]
    pub fn at(&self) -> Timestamp {
        match &self.kind {
            EntryKind::Call { settlement, .. } => settlement.at,
            EntryKind::Correction(receipt) => Timestamp(receipt.settled_at_ms),
        }
    }

    #[must_use]
    pub fn is_correction(&self) -> bool {
        matches!(self.kind, EntryKind::Correction(_))
    }

    /// Its receipt, without a place in the chain.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        match &self.kind {
            EntryKind::Call { intent, settlement } => Receipt::of_call(intent, settlement),
            EntryKind::Correction(receipt) => (**receipt).clone(),
        }
    }
}
