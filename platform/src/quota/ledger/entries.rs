//! Entries handed over to the ledger's writer: calls that are over, and corrections.

use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::intent::{Intent, Settlement};
use super::receipt::Receipt;
use crate::db::{AccountId, HoldId};
use crate::quota::calendar::{Day, Month};

/// A correction as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Without its place in the chain.
    pub receipt: Box<Receipt>,
    /// Of the month that it is part of.
    pub allowance_nanodollars: i64,
}

/// What becomes a receipt.
#[derive(Clone, Debug)]
pub struct LedgerEntry {
    pub kind: EntryKind,
    /// The account's allowance for the month, to be shown beside what was spent of it.
    pub allowance_nanodollars: i64,
    /// The day's, where it has one and that is known.
    pub day_allowance_nanodollars: Option<i64>,
}

/// A call that is over, or a correction of one, as a receipt that has no place in the chain yet.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls, and each is handed over in a box")]
pub enum EntryKind {
    Call { intent: Intent, settlement: Settlement },
    Correction(Box<Receipt>),
}

impl Correction {
    /// For the ledger.
    #[must_use]
    pub fn into_entry(self, day_allowance_nanodollars: Option<i64>) -> LedgerEntry {
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

    /// The month of which it is part.
    #[must_use]
    pub fn month(&self) -> Month {
        match &self.kind {
            EntryKind::Call { intent, .. } => intent.period,
            EntryKind::Correction(receipt) => receipt.period,
        }
    }

    /// The day of which it is part.
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

    /// Its receipt, before that has its place in the chain.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        match &self.kind {
            EntryKind::Call { intent, settlement } => Receipt::of_call(intent, settlement),
            EntryKind::Correction(receipt) => (**receipt).clone(),
        }
    }
}
