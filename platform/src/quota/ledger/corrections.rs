//! Corrections: a call cost other than its receipt says. The receipt stays as it is; the difference, more or less,
//! becomes a receipt of its own in the month and on the day of the first, so that sums say what was truly spent in
//! them.
//!
//! One is in the journal and in the books in memory in the same step, and in the database a moment later, like what a
//! call cost. Its id follows from what it changes, so that the same correction is never made twice.

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::open::Ledger;
use super::receipt::Receipt;
use super::store;
use crate::db::HoldId;
use crate::db::audit::{self, AuditEntry};
use crate::quota::admission::Payer;
use crate::quota::prices::dollars;

/// What a correction says of how the call ended.
const CORRECTED: &str = "corrected";
/// The basis of a correction that the operator made by hand.
pub const BY_OPERATOR: &str = "operator";
/// The basis of one that other prices made.
pub const BY_PRICES: &str = "rerated";
/// Characters of a reason.
pub const LONGEST_REASON: usize = 200;

/// What a call came to by a correction of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionResult {
    /// Of the correction.
    pub id: HoldId,
    /// What the call cost in all, with every correction.
    pub total_nanodollars: i64,
}

/// The fields in which a correction differs from its receipt.
pub(super) struct ReceiptChange<'a> {
    pub nanodollars: i64,
    pub basis: &'static str,
    pub price_version: &'a str,
    pub reason: String,
    /// What makes this correction another one than all others of the receipt.
    pub known_by: &'a str,
}

impl Ledger {
    /// Gives back a part of what a call cost, with a minus, or takes more for it, and keeps the reason with that. Only
    /// the platform that makes calls can.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when nothing would change, or the call would cost less than nothing; `Conflict` for the
    /// same correction once more, or of a correction; `Unavailable` when it cannot be written down just now.
    pub async fn correct(&self, id: HoldId, nanodollars: i64, reason: &str, by: &str) -> Result<CorrectionResult> {
        let Self { db, clock, .. } = self;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
            let sentence =
                format!("Give a reason of at most {LONGEST_REASON} characters; it is kept with the receipt.");
            return Err(Error::invalid("reason", sentence));
        }
        let open = self.open()?;
        let _turn = open.corrections.lock().await;
        open.caught_up().await?;
        let receipt = store::any_receipt(db.read(), id).await?.ok_or(Error::NotFound)?;
        if let Some(corrected) = receipt.corrects {
            return Err(Error::Conflict(format!(
                "That receipt is a correction itself. Correct the original receipt {corrected} instead."
            )));
        }
        if receipt.payer == Payer::OwnKey.as_str() {
            return Err(Error::Conflict(
                "That call used the owner's own provider key, so it cost the budget nothing.".into(),
            ));
        }
        let before = store::corrections_of(db.read(), std::iter::once(id)).await?;
        let so_far =
            before.iter().fold(receipt.amount_nanodollars, |sum, one| sum.saturating_add(one.amount_nanodollars));
        let total_nanodollars = total(so_far, nanodollars)?;
        let known_by = format!("{nanodollars} {reason}");
        let change = ReceiptChange {
            nanodollars,
            basis: BY_OPERATOR,
            price_version: &receipt.price_version,
            reason: reason.to_owned(),
            known_by: &known_by,
        };
        let correction = change.of(&receipt, clock.now());
        if before.iter().any(|one| one.id == correction.id) {
            return Err(Error::Conflict(
                "This correction was made already, for the same reason. To make it again, give another reason.".into(),
            ));
        }
        let tx = db.begin().await?;
        let said = format!("{}: {reason}", dollars(nanodollars));
        let entry = AuditEntry { actor: by, action: "correct_receipt", subject: &id.to_string(), detail: &said };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        let corrected = CorrectionResult { id: correction.id, total_nanodollars };
        open.accept(&self.admission, correction).await?;
        open.settled().await;
        Ok(corrected)
    }
}

/// What a call comes to that cost `so_far`, once it costs so much more or less.
fn total(so_far: i64, nanodollars: i64) -> Result<i64> {
    if nanodollars == 0 {
        return Err(Error::invalid("dollars", "An amount of 0 changes nothing."));
    }
    let total = so_far.checked_add(nanodollars).filter(|total| *total >= 0);
    total.ok_or_else(|| {
        let sentence = format!("The call costs {} in total; that cannot become negative.", dollars(so_far));
        Error::invalid("dollars", sentence)
    })
}

impl ReceiptChange<'_> {
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

/// The id is a hash of the receipt, basis and source of a correction, so a retry of the correction has the same id.
fn id_of(corrected: HoldId, basis: &str, known_by: &str) -> HoldId {
    let digest = Sha256::new().chain_update(corrected.0).chain_update(basis).chain_update([0]).chain_update(known_by);
    let digest = digest.finalize();
    let bytes = std::array::from_fn(|at| digest[at]);
    HoldId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
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
