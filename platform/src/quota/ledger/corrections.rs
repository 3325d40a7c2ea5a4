//! Corrections of receipts. A receipt never changes: the difference, positive or negative, becomes a receipt of its own
//! in the month and on the day of the first, so that their sums are right.
//!
//! A correction enters the journal and the books in memory in one step, and the database a moment later, like the
//! settlement of a call. Its id is derived from its content, so that the same correction is never made twice.

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::open::Ledger;
use super::receipt::Receipt;
use super::store;
use crate::db::HoldId;
use crate::db::audit::{self, AuditEntry};
use crate::quota::admission::Payer;
use crate::quota::prices::dollars;

/// The outcome in the receipt of a correction.
const CORRECTED: &str = "corrected";
/// The basis of a correction that the operator made by hand.
pub const BY_OPERATOR: &str = "operator";
/// The basis of a correction by repricing.
pub const BY_PRICES: &str = "rerated";
/// The most characters of a reason.
pub const LONGEST_REASON: usize = 200;

/// The result of a correction by the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionResult {
    /// The id of the correction.
    pub id: HoldId,
    /// The cost of the call, with every correction.
    pub total_nanodollars: Nanodollars,
}

/// The fields in which a correction differs from its receipt.
pub(super) struct ReceiptChange<'a> {
    pub nanodollars: Nanodollars,
    pub basis: &'static str,
    pub price_version: &'a str,
    pub reason: String,
    /// Text that differs between all corrections of one receipt; the id is derived from it.
    pub known_by: &'a str,
}

impl Ledger {
    /// Refunds a part of the cost of a call (an amount below zero), or charges more for it, and keeps the reason. Only
    /// the platform that makes calls can.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the amount is zero, or the total would be below zero; `Conflict` when the correction
    /// was made already, or the receipt is a correction itself; `Unavailable` when it cannot be written at the moment.
    pub async fn correct(
        &self,
        id: HoldId,
        nanodollars: Nanodollars,
        reason: &str,
        by: &str,
    ) -> Result<CorrectionResult> {
        let Self { db, clock, .. } = self;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
            let sentence =
                format!("Give a reason of at most {LONGEST_REASON} characters; it is kept with the receipt.");
            return Err(Error::invalid("reason", sentence));
        }
        let open = self.open()?;
        // One correction at a time: two that read the same total could together take it below zero.
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
        // The bare integer, as in every id since the first: the same correction has the same id also after an upgrade.
        let known_by = format!("{} {reason}", nanodollars.0);
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
        // The audit comes first. If the journal then refuses, the operator sees the error and an entry too many; in the
        // other order a kill between the two would leave money moved with no entry.
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

/// The total of a call that cost `so_far`, after a correction by `nanodollars`.
fn total(so_far: Nanodollars, nanodollars: Nanodollars) -> Result<Nanodollars> {
    if nanodollars == Nanodollars::ZERO {
        return Err(Error::invalid("dollars", "An amount of 0 changes nothing."));
    }
    let total = so_far.checked_add(nanodollars).filter(|total| *total >= Nanodollars::ZERO);
    total.ok_or_else(|| {
        let sentence = format!("The call costs {} in total; that cannot become negative.", dollars(so_far));
        Error::invalid("dollars", sentence)
    })
}

impl ReceiptChange<'_> {
    /// The receipt that corrects `receipt`.
    pub fn of(self, receipt: &Receipt, now: Timestamp) -> Receipt {
        let Self { nanodollars, basis, price_version, reason, known_by } = self;
        Receipt {
            id: id_of(receipt.id, basis, known_by),
            price_version: price_version.to_owned(),
            held_nanodollars: Nanodollars::ZERO,
            amount_nanodollars: nanodollars,
            // Tokens are counted once, with the call.
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
        let of_five = |change| total(Nanodollars(5), Nanodollars(change));
        assert_eq!((of_five(-5).ok(), of_five(1).ok()), (Some(Nanodollars::ZERO), Some(Nanodollars(6))));
        for nonsense in [-6, 0, i64::MAX] {
            assert!(of_five(nonsense).is_err(), "{nonsense}");
        }
    }
}
