//! Receipts, for whoever reads them.

use super::chain::Walk;
use super::{Inner, Quota, Receipt, store};
use crate::db::AccountId;
use crate::error::Result;

/// Receipts that are verified at a time.
const VERIFIED_AT_ONCE: u64 = 1000;

/// What a look at every receipt found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub accounts: usize,
    pub receipts: u64,
    /// A sentence for each chain that is not as it was written.
    pub wrong: Vec<String>,
}

impl Quota {
    /// The latest `most` receipts of `account`, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn receipts(&self, account: AccountId, most: u64) -> Result<Vec<Receipt>> {
        self.settled().await;
        store::latest_receipts(self.0.db.read(), account, most).await
    }

    /// Looks at every receipt: whether it is as it was written, follows the one before it, and is signed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn verify(&self) -> Result<Verified> {
        let Inner { db, signer, .. } = &*self.0;
        // Receipts are added meanwhile, and must not look like missing ones.
        let moment = db.begin_reading().await?;
        let mut verified = Verified::default();
        for account in store::accounts_with_receipts(&moment).await? {
            verified.accounts += 1;
            let mut walk = Walk::new(signer);
            let mut seq = 0;
            let ended = loop {
                let receipts = store::receipts_after(&moment, account, seq, VERIFIED_AT_ONCE).await?;
                let Some(last) = receipts.last() else { break walk.end() };
                seq = last.seq;
                verified.receipts += receipts.len() as u64;
                if let Err(wrong) = receipts.iter().try_for_each(|receipt| walk.next(receipt)) {
                    break Err(wrong);
                }
            };
            verified.wrong.extend(ended.err().map(|wrong| format!("account {account}: {wrong}")));
        }
        Ok(verified)
    }

    /// The public key of this installation's receipts: Ed25519, as hexadecimal text.
    #[must_use]
    pub fn receipt_key(&self) -> String {
        self.0.signer.public_key()
    }
}
