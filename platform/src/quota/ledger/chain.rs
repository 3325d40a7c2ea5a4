//! Receipts that cannot be altered unseen: each names the digest of the one before it in its account, and the newest of
//! every batch is signed, which vouches for all before it.
//!
//! The digest is SHA-256 over the receipt as JSON, in the order of [`DigestFields`]'s fields; the signature is Ed25519
//! (RFC 8032) over the digest's hexadecimal text, with a key derived from `BERTH_SECRET`. The public key is enough to
//! verify it.

use berth_ground::money::Nanodollars;
use berth_ground::secrets::InstallationKeys;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::receipt::{Receipt, UnreadableReceipt};
use crate::quota::admission::Payer;
use crate::quota::calendar::{Day, Month};

/// The previous digest of the first receipt of an account.
pub const BEGINNING: &str = "";

/// The digested fields of a receipt: all but digest and signature.
#[derive(Serialize)]
struct DigestFields<'a> {
    id: Uuid,
    account: Uuid,
    seq: i64,
    previous: &'a str,
    corrects: Option<Uuid>,
    /// Omitted when empty, so that receipts from before there were reasons keep their digests.
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    instance: Uuid,
    period: Month,
    day: Day,
    provider: &'a str,
    model: &'a str,
    agent: &'a str,
    price_version: &'a str,
    held_nanodollars: Nanodollars,
    amount_nanodollars: Nanodollars,
    input_tokens: i64,
    cache_write_tokens: i64,
    cache_write_long_tokens: i64,
    cache_read_tokens: i64,
    output_tokens: i64,
    basis: &'a str,
    outcome: &'a str,
    counted: &'a str,
    usage: &'a str,
    held_at_ms: i64,
    settled_at_ms: i64,
    // Omitted at their defaults, so that receipts from before these fields keep their digests.
    #[serde(skip_serializing_if = "is_budget")]
    payer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    worth_nanodollars: Option<Nanodollars>,
}

fn is_budget(payer: &&str) -> bool {
    *payer == Payer::Budget.as_str()
}

/// The digest of `receipt`, as hexadecimal text.
#[must_use]
pub fn digest(receipt: &Receipt) -> String {
    hex::encode(Sha256::digest(text(receipt)))
}

/// The digested text of `receipt`: its SHA-256 is the digest, which a verifier can recompute.
#[must_use]
pub fn text(receipt: &Receipt) -> String {
    let body = DigestFields {
        id: receipt.id.0,
        account: receipt.account_id.0,
        seq: receipt.seq,
        previous: &receipt.previous,
        corrects: receipt.corrects.map(|id| id.0),
        reason: &receipt.reason,
        instance: receipt.instance_id.0,
        period: receipt.period,
        day: receipt.day,
        provider: &receipt.provider,
        model: &receipt.model,
        agent: &receipt.agent,
        price_version: &receipt.price_version,
        held_nanodollars: receipt.held_nanodollars,
        amount_nanodollars: receipt.amount_nanodollars,
        input_tokens: receipt.input_tokens,
        cache_write_tokens: receipt.cache_write_tokens,
        cache_write_long_tokens: receipt.cache_write_long_tokens,
        cache_read_tokens: receipt.cache_read_tokens,
        output_tokens: receipt.output_tokens,
        basis: &receipt.basis,
        outcome: &receipt.outcome,
        counted: &receipt.counted,
        usage: &receipt.usage,
        held_at_ms: receipt.held_at_ms,
        settled_at_ms: receipt.settled_at_ms,
        payer: &receipt.payer,
        worth_nanodollars: receipt.worth_nanodollars,
    };
    serde_json::to_string(&body).expect("a receipt is always JSON")
}

/// The end of an account's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    pub seq: i64,
    pub digest: String,
}

impl ChainHead {
    /// Of an account without a receipt.
    #[must_use]
    pub fn beginning() -> Self {
        Self { seq: 0, digest: BEGINNING.to_owned() }
    }

    /// Puts `receipt` at the end of the chain.
    pub fn append(&mut self, receipt: &mut Receipt) {
        receipt.seq = self.seq + 1;
        receipt.previous = std::mem::take(&mut self.digest);
        receipt.hash = digest(receipt);
        *self = Self { seq: receipt.seq, digest: receipt.hash.clone() };
    }
}

/// Signs receipts.
pub struct ReceiptSigner(Ed25519KeyPair);

impl ReceiptSigner {
    /// With the key of this installation.
    #[must_use]
    pub fn new(keys: &InstallationKeys) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&*keys.receipts()).expect("a seed has 32 bytes"))
    }

    /// The signature of a receipt with this digest, as hexadecimal text.
    #[must_use]
    pub fn sign(&self, digest: &str) -> String {
        hex::encode(self.0.sign(digest.as_bytes()).as_ref())
    }

    /// The key to verify with, as hexadecimal text.
    #[must_use]
    pub fn public_key(&self) -> String {
        hex::encode(self.0.public_key().as_ref())
    }

    fn signed(&self, digest: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0.public_key().as_ref());
        hex::decode(signature).is_ok_and(|signature| key.verify(digest.as_bytes(), &signature).is_ok())
    }
}

/// Goes along the chain of one account, receipt by receipt, in their order.
pub struct ChainVerifier<'a> {
    signer: &'a ReceiptSigner,
    head: Option<ChainHead>,
    newest_is_signed: bool,
}

impl<'a> ChainVerifier<'a> {
    /// From the account's oldest receipt that is kept.
    #[must_use]
    pub fn new(signer: &'a ReceiptSigner) -> Self {
        Self { signer, head: None, newest_is_signed: true }
    }

    /// Looks at the next receipt.
    ///
    /// # Errors
    /// A sentence that names the error in the receipt.
    pub fn next(&mut self, receipt: &Receipt) -> Result<(), String> {
        let Receipt { id, seq, previous, hash, signature, .. } = receipt;
        let follows = self.head.as_ref().is_none_or(|head| head.seq + 1 == *seq && head.digest == *previous);
        if !follows || (*seq == 1 && previous != BEGINNING) {
            return Err(format!(
                "receipt {id} ({seq}) does not follow the one before it: one is missing or was altered"
            ));
        }
        if digest(receipt) != *hash {
            return Err(format!("receipt {id} ({seq}) was altered: its digest is another"));
        }
        if !signature.is_empty() && !self.signer.signed(hash, signature) {
            return Err(format!("receipt {id} ({seq}) is not signed with this installation's key"));
        }
        self.head = Some(ChainHead { seq: *seq, digest: hash.clone() });
        self.newest_is_signed = !signature.is_empty();
        Ok(())
    }

    /// Passes over a row that is no receipt, and says so. The receipts after it are checked by the digest that it has.
    pub fn pass_over(&mut self, row: &UnreadableReceipt) -> String {
        self.head = row.seq.zip(row.hash.clone()).map(|(seq, digest)| ChainHead { seq, digest });
        self.newest_is_signed = true;
        let text = |part: Option<String>| part.unwrap_or_else(|| "?".into());
        let (id, seq) = (text(row.id.map(|id| id.to_string())), text(row.seq.map(|seq| seq.to_string())));
        format!("receipt {id} ({seq}) was altered: it cannot be read")
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// A sentence, when the newest receipt is not signed: it, or some after it, are not those that were written.
    pub fn end(self) -> Result<(), String> {
        match self.head {
            Some(head) if !self.newest_is_signed => {
                Err(format!("the newest receipt ({}) is not signed: those after it are missing", head.seq))
            }
            _ => Ok(()),
        }
    }
}
