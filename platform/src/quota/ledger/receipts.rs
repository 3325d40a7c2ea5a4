//! Reading receipts, proving them by the hash chain, and deleting old ones.

use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use futures_util::stream::{self, Stream};

use super::chain::{self, ChainVerifier};
use super::open::Ledger;
use super::receipt::Receipt;
use super::store::{self, ReceiptBatch, ReceiptRange, StoredReceipt};
use crate::db::{AccountId, HoldId};
use crate::quota::calendar::{Day, Month};

/// Receipts that are verified, or handed out, at a time.
const AT_ONCE: u64 = 1000;

/// The result of verifying every receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainVerification {
    pub accounts: usize,
    pub receipts: u64,
    /// A sentence for each chain that was altered, and for each row that is no receipt any more.
    pub wrong: Vec<String>,
}

/// A receipt, and the proof that it was not altered.
#[derive(Clone, Debug)]
pub struct ReceiptProof {
    pub receipt: Receipt,
    /// The digested text: its SHA-256 is `hash`.
    pub digested: String,
    /// The receipt with the next signature in the chain, which vouches for all before it; often itself. `None` when the
    /// receipt is from before they were chained.
    pub vouched_by: Option<Receipt>,
    /// Its corrections, the oldest first.
    pub corrections: Vec<Receipt>,
    /// The error in the chain from this receipt to that one, if there is one.
    pub wrong: Option<String>,
}

impl ReceiptProof {
    /// The cost of the call with every correction; of a correction, its own amount.
    #[must_use]
    pub fn total_nanodollars(&self) -> Nanodollars {
        let amounts = self.corrections.iter().map(|one| one.amount_nanodollars);
        amounts.fold(self.receipt.amount_nanodollars, Nanodollars::saturating_add)
    }
}

impl Ledger {
    /// Deletes receipts that are past their retention, and returns their number. Sums by day and month stay, and so
    /// does the newest receipt of each account, because its chain continues from it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_receipts(&self) -> Result<u64> {
        let Self { db, clock, receipts_for, .. } = self;
        let before = Day::of(clock.now().minus(*receipts_for));
        let mut forgotten = 0;
        for account in store::accounts_with_receipts(db.read()).await? {
            // One transaction for each account, so that no account's writes wait until all accounts are done.
            let tx = db.begin().await?;
            forgotten += store::forget_receipts(&tx, account, before).await?;
            tx.commit().await?;
        }
        Ok(forgotten)
    }

    /// The latest `most` receipts of `account`, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn receipts(&self, account: AccountId, most: u64) -> Result<Vec<Receipt>> {
        self.settled().await;
        store::latest_receipts(self.db.read(), account, most).await
    }

    /// At most `most` receipts of `account` before number `before` in its chain, the newest first; from the newest on
    /// without one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn receipts_before(&self, account: AccountId, before: Option<i64>, most: u64) -> Result<Vec<Receipt>> {
        self.settled().await;
        store::receipts_before(self.db.read(), account, before.unwrap_or(i64::MAX), most).await
    }

    /// One receipt of `account`, verified.
    ///
    /// # Errors
    /// `NotFound` when the account has no such receipt; when the database does not answer.
    pub async fn receipt(&self, account: AccountId, id: HoldId) -> Result<ReceiptProof> {
        self.settled().await;
        let Self { db, signer, .. } = self;
        let receipt = store::receipt(db.read(), account, id).await?.ok_or(Error::NotFound)?;
        let corrections = store::corrections_of(db.read(), std::iter::once(id)).await?;
        let digested = chain::text(&receipt);
        let mut proof = ReceiptProof { digested, vouched_by: None, corrections, wrong: None, receipt: receipt.clone() };
        if receipt.seq == 0 {
            return Ok(proof);
        }
        // A batch is signed as a whole and is smaller than this, so the signature is among these.
        let following = store::rows_after(db.read(), account, Ord::max(receipt.seq - 2, 0), AT_ONCE).await?;
        let mut walk = ChainVerifier::new(signer);
        for next in following {
            let next = match next {
                StoredReceipt::Receipt(next) => next,
                StoredReceipt::Unreadable(row) => {
                    proof.wrong = Some(walk.pass_over(&row));
                    break;
                }
            };
            if let Err(wrong) = walk.next(&next) {
                proof.wrong = Some(wrong);
                break;
            }
            if next.seq >= receipt.seq && !next.signature.is_empty() {
                proof.vouched_by = Some(*next);
                break;
            }
        }
        if proof.vouched_by.is_none() && proof.wrong.is_none() {
            proof.wrong = walk.end().err();
        }
        Ok(proof)
    }

    /// The receipts of `month` in the chain of `account`, in their order, some at a time as they are asked for. Those
    /// that are written meanwhile are not among them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn receipts_of_month(
        &self,
        account: AccountId,
        month: Month,
    ) -> Result<impl Stream<Item = Result<Vec<Receipt>>> + Send + 'static> {
        self.settled().await;
        let db = self.db.clone();
        let nothing = ReceiptRange { after: 0, last: 0 };
        let range = store::numbers_of_month(db.read(), account, month).await?.unwrap_or(nothing);
        Ok(stream::try_unfold(range, move |range| {
            let db = db.clone();
            async move {
                let ReceiptBatch { mut receipts, last, .. } =
                    store::receipts_in(db.read(), account, range, AT_ONCE).await?;
                let Some(last) = last else { return Ok(None) };
                let rest = ReceiptRange { after: last, ..range };
                // Calls that began in a month and ended in the next lie between those of the next.
                receipts.retain(|receipt| receipt.period == month);
                Ok(Some((receipts, rest)))
            }
        }))
    }

    /// Verifies every receipt: its digest, its place after the one before it, and its signature. A row that is no
    /// receipt any more is named, and the walk continues after it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn verify(&self) -> Result<ChainVerification> {
        let Self { db, signer, .. } = self;
        // One snapshot: a chain that grows between two reads would end in an unsigned receipt.
        let moment = db.begin_reading().await?;
        let mut verified = ChainVerification::default();
        for account in store::accounts_with_receipts(&moment).await? {
            verified.accounts += 1;
            let mut walk = ChainVerifier::new(signer);
            let mut seq = 0;
            let mut wrong = Vec::new();
            let ended = loop {
                let rows = store::rows_after(&moment, account, seq, AT_ONCE).await?;
                verified.receipts += rows.len() as u64;
                let checked = rows.iter().try_for_each(|row| match row {
                    StoredReceipt::Receipt(receipt) => walk.next(receipt),
                    StoredReceipt::Unreadable(row) => {
                        wrong.push(walk.pass_over(row));
                        Ok(())
                    }
                });
                match (checked, rows.iter().filter_map(StoredReceipt::seq).max()) {
                    (Err(wrong), _) => break Err(wrong),
                    (Ok(()), None) => break walk.end(),
                    (Ok(()), Some(last)) => seq = last,
                }
            };
            wrong.extend(ended.err());
            verified.wrong.extend(wrong.into_iter().map(|wrong| format!("account {account}: {wrong}")));
        }
        Ok(verified)
    }

    /// The public key of this installation's receipts: Ed25519, as hexadecimal text.
    #[must_use]
    pub fn receipt_key(&self) -> String {
        self.signer.public_key()
    }
}
