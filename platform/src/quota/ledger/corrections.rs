//! Corrections: a call cost other than its receipt says. The receipt stays as it is; the difference, more or less, becomes
//! a receipt of its own in the month and on the day of the first, so that sums say what was truly spent in them.
//!
//! One is in the journal and in the books in memory in the same step, and in the database a moment later, like what a
//! call cost. Its id follows from what it changes, so that the same correction is never made twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::writer::{Message, Over, What};
use crate::clock::Timestamp;
use crate::db::{HoldId, audit};
use crate::error::{Error, Result};
use crate::quota::admission::refusal::{TRY_AGAIN, disk_refuses};
use crate::quota::{Inner, Payer, Quota, Receipt, Running, dollars, lock, store};

/// What a correction says of how the call ended.
const CORRECTED: &str = "corrected";
/// The basis of a correction that the operator made by hand.
pub const BY_OPERATOR: &str = "operator";
/// The basis of one that other prices made.
pub const BY_PRICES: &str = "rerated";
/// Characters of a reason.
pub const LONGEST_REASON: usize = 200;

/// A correction as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Without its place in the chain.
    pub receipt: Box<Receipt>,
    /// Of the month that it is part of.
    pub allowance_nanodollars: i64,
}

impl Correction {
    /// For the ledger.
    pub fn over(self, day_allowance_nanodollars: Option<i64>) -> Over {
        let Self { receipt, allowance_nanodollars } = self;
        Over { what: What::Correction(receipt), allowance_nanodollars, day_allowance_nanodollars }
    }
}

/// Corrections that were accepted and are not in the database yet. While there are any, nobody knows from the database
/// what a receipt comes to, and nothing further is corrected.
#[derive(Debug, Default)]
pub struct Waiting(AtomicUsize);

impl Waiting {
    fn begun(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// So many are in the database, or were not accepted after all.
    pub fn ended(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }

    fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// What a call came to by a correction of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrected {
    /// Of the correction.
    pub id: HoldId,
    /// What the call cost in all, with every correction.
    pub total_nanodollars: i64,
}

/// What is different about a receipt.
pub(in crate::quota) struct Change<'a> {
    pub nanodollars: i64,
    pub basis: &'static str,
    pub price_version: &'a str,
    pub reason: String,
    /// What makes this correction another one than all others of the receipt.
    pub known_by: &'a str,
}

impl Quota {
    /// Gives back a part of what a call cost, with a minus, or takes more for it, and keeps the reason with that. Only the
    /// platform that makes calls can.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when nothing would change, or the call would cost less than nothing; `Conflict` for the same
    /// correction once more, or of a correction; `Unavailable` when it cannot be written down just now.
    pub async fn correct(&self, id: HoldId, nanodollars: i64, reason: &str, by: &str) -> Result<Corrected> {
        let Inner { db, clock, .. } = &*self.0;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
            let sentence = format!("Say why, in at most {LONGEST_REASON} characters: it is kept with the receipt.");
            return Err(Error::invalid("because", sentence));
        }
        let running = self.0.running()?;
        let _turn = running.corrections.lock().await;
        self.caught_up(running).await?;
        let receipt = store::any_receipt(db.read(), id).await?.ok_or(Error::NotFound)?;
        if let Some(corrected) = receipt.corrects {
            return Err(Error::Conflict(format!("That is a correction itself. Correct receipt {corrected}.")));
        }
        if receipt.payer == Payer::OwnKey.as_str() {
            return Err(Error::Conflict("Its owner paid the provider for that call, and the budget nothing.".into()));
        }
        let before = store::corrections_of(db.read(), std::iter::once(id)).await?;
        let so_far =
            before.iter().fold(receipt.amount_nanodollars, |sum, one| sum.saturating_add(one.amount_nanodollars));
        let total_nanodollars = total(so_far, nanodollars)?;
        let known_by = format!("{nanodollars} {reason}");
        let change = Change {
            nanodollars,
            basis: BY_OPERATOR,
            price_version: &receipt.price_version,
            reason: reason.to_owned(),
            known_by: &known_by,
        };
        let correction = change.of(&receipt, clock.now());
        if before.iter().any(|one| one.id == correction.id) {
            return Err(Error::Conflict(
                "That was done already, for the same reason. To do it once more, say another.".into(),
            ));
        }
        let tx = db.begin().await?;
        let said = format!("{}: {reason}", dollars(nanodollars));
        let entry = audit::AuditEntry { actor: by, action: "correct_receipt", subject: &id.to_string(), detail: &said };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        let corrected = Corrected { id: correction.id, total_nanodollars };
        self.0.accept(running, correction).await?;
        self.settled().await;
        Ok(corrected)
    }

    /// Returns when the database knows of every correction that was made before.
    pub(in crate::quota) async fn caught_up(&self, running: &Running) -> Result<()> {
        self.settled().await;
        if running.waiting.is_none() {
            return Ok(());
        }
        let message = "The database does not take receipts just now, so nothing is corrected. Nothing was lost.".into();
        Err(Error::Unavailable { message, retry_after: TRY_AGAIN })
    }
}

/// What a call comes to that cost `so_far`, once it costs so much more or less.
fn total(so_far: i64, nanodollars: i64) -> Result<i64> {
    if nanodollars == 0 {
        return Err(Error::invalid("dollars", "That changes nothing."));
    }
    let total = so_far.checked_add(nanodollars).filter(|total| *total >= 0);
    total.ok_or_else(|| {
        let sentence = format!("The call cost {} in all; it cannot cost less than nothing.", dollars(so_far));
        Error::invalid("dollars", sentence)
    })
}

impl Change<'_> {
    /// The receipt that changes `receipt` so.
    pub fn of(self, receipt: &Receipt, now: Timestamp) -> Receipt {
        let Self { nanodollars, basis, price_version, reason, known_by } = self;
        Receipt {
            id: id_of(receipt.id, basis, known_by),
            price_version: price_version.to_owned(),
            held_nanodollars: 0,
            amount_nanodollars: nanodollars,
            // They are counted once, with the call.
            input_tokens: 0,
            cache_write_tokens: 0,
            cache_write_long_tokens: 0,
            cache_read_tokens: 0,
            output_tokens: 0,
            basis: basis.to_owned(),
            outcome: CORRECTED.to_owned(),
            usage: String::new(),
            held_at_ms: now.0,
            settled_at_ms: now.0,
            corrects: Some(receipt.id),
            reason,
            seq: 0,
            previous: String::new(),
            hash: String::new(),
            signature: String::new(),
            worth_nanodollars: None,
            ..receipt.clone()
        }
    }
}

/// The same for the same correction of the same receipt, whoever makes it and when.
fn id_of(corrected: HoldId, basis: &str, known_by: &str) -> HoldId {
    let digest = Sha256::new().chain_update(corrected.0).chain_update(basis).chain_update([0]).chain_update(known_by);
    let digest = digest.finalize();
    let bytes = std::array::from_fn(|at| digest[at]);
    HoldId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Inner {
    /// Writes a correction down and takes it into the books of its account, as one step.
    pub(in crate::quota) async fn accept(&self, running: &Running, receipt: Receipt) -> Result<()> {
        let books = self.account(receipt.account_id).await?;
        let now = self.clock.now();
        let (period, day, nanodollars) = (receipt.period.clone(), receipt.day.clone(), receipt.amount_nanodollars);
        let booked_on = (&*period, &*day);
        // No await from here on: whoever is dropped has made either nothing or the correction.
        let mut account = lock(&books);
        let allowance_nanodollars = account.correct(booked_on, nanodollars, now);
        let day_allowance = account.limits().day_nanodollars;
        let correction = Correction { receipt: Box::new(receipt), allowance_nanodollars };
        let handed_over = correction.clone().over(day_allowance);
        let written = running.journal.correct(&correction, || {
            running.waiting.begun();
            if running.ledger.send(Message::Over(Box::new(handed_over))).is_err() {
                tracing::warn!("a call was corrected after the books were closed; it is booked at the next start");
            }
        });
        written.map_err(|error| {
            account.correct(booked_on, nanodollars.saturating_neg(), now);
            disk_refuses(&error)
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_correction_is_known_by_what_it_changes() {
        let [one, other] = [1, 2].map(|number| HoldId(Uuid::from_u128(number)));
        assert_eq!(id_of(one, BY_PRICES, "abc"), id_of(one, BY_PRICES, "abc"));
        for another in [id_of(other, BY_PRICES, "abc"), id_of(one, BY_OPERATOR, "abc"), id_of(one, BY_PRICES, "abd")] {
            assert_ne!(another, id_of(one, BY_PRICES, "abc"));
        }
    }

    #[test]
    fn a_call_never_costs_less_than_nothing_in_all() {
        assert_eq!((total(5, -5).ok(), total(5, 1).ok()), (Some(0), Some(6)));
        for nonsense in [-6, 0, i64::MAX] {
            assert!(total(5, nonsense).is_err(), "{nonsense}");
        }
    }
}
