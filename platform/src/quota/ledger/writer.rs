//! The ledger: carries finished calls and corrections from the journal into the database, in batches, as receipts.
//!
//! Only readers wait for it. Entries that the database refuses stay in the journal and are retried.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_ground::error::{Error, Result};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::chain::{ChainHead, ReceiptSigner};
use super::entries::LedgerEntry;
use super::journal::Journal;
use super::pending::PendingCorrections;
use super::receipt::Receipt;
use super::store::{self, SpendIncrements};
use super::thresholds;
use crate::db::{AccountId, Db};

/// How long the first entry of a batch waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// The most receipts in one transaction, which also costs a signature and a few sums per account. Below the 1000
/// receipts that a proof reads at a time, so that the signature that vouches for a receipt is among them.
const BATCH: usize = 900;
/// The time until entries that the database refused are retried.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The size from which the journal is rotated.
const JOURNAL_BYTES: u64 = 8 * 1024 * 1024;

pub enum LedgerMessage {
    Entry(Box<LedgerEntry>),
    /// Answered when everything handed over before is in the database, or was refused by it at least once.
    Flush(oneshot::Sender<()>),
}

/// Whether the batch to be written may be in the database already.
#[derive(Clone, Copy)]
enum WriteAttempt {
    New,
    /// A retry after the answer to a commit was lost, or a journal that is read again.
    Tried,
}

/// The one task that writes receipts.
pub struct LedgerWriter {
    pub db: Db,
    pub signer: Arc<ReceiptSigner>,
    pub journal: Arc<Journal>,
    /// The epoch of this opening of the books.
    pub epoch: i64,
    /// Set when another platform has opened the books since.
    pub closed: Arc<AtomicBool>,
    /// Notified when a reader waits for the entries that were handed over.
    pub hurry: Arc<Notify>,
    /// Corrections that were accepted and are not in the database yet.
    pub pending: Arc<PendingCorrections>,
    pub heads: HashMap<AccountId, ChainHead>,
}

impl LedgerWriter {
    /// Writes incoming entries to the database, until the last sender is gone and every entry is written.
    pub async fn keep(mut self, mut messages: mpsc::UnboundedReceiver<LedgerMessage>) {
        let mut refused: VecDeque<LedgerEntry> = VecDeque::new();
        let mut again = tokio::time::interval(TRY_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        while (is_open || !refused.is_empty()) && !self.closed.load(Ordering::Relaxed) {
            tokio::select! {
                message = messages.recv(), if is_open => match message {
                    Some(first) => {
                        let (batch, flushed) = gather(first, &mut messages, &self.hurry).await;
                        self.carry_over(batch, &mut refused).await;
                        for flushed in flushed {
                            // The task that asked for the flush may have stopped waiting.
                            let _ = flushed.send(());
                        }
                        self.shorten_journal(&mut messages, &mut refused).await;
                    }
                    None => is_open = false,
                },
                _ = again.tick(), if !refused.is_empty() => {
                    let due = refused.drain(..).collect();
                    self.carry_over(due, &mut refused).await;
                }
            }
        }
    }

    /// Writes a batch. If the database refuses it, its entries are tried one by one, so that an entry that cannot be
    /// written delays no other.
    async fn carry_over(&mut self, batch: Vec<LedgerEntry>, refused: &mut VecDeque<LedgerEntry>) {
        let mut batch = batch;
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            match self.write(&batch, WriteAttempt::New).await {
                Ok(()) => self.pending.ended(batch.iter().filter(|over| over.is_correction()).count()),
                Err(_) => {
                    for over in batch {
                        match self.write(std::slice::from_ref(&over), WriteAttempt::Tried).await {
                            Ok(()) => self.pending.ended(usize::from(over.is_correction())),
                            Err(error) => self.postpone(over, refused, &error),
                        }
                    }
                }
            }
            batch = rest;
        }
    }

    /// Writes all entries at the start, which continues only with all of them. A batch that fails is not written in
    /// part.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn carry_over_all(&mut self, over: Vec<LedgerEntry>) -> Result<()> {
        for batch in over.chunks(BATCH) {
            self.write(batch, WriteAttempt::Tried).await?;
        }
        Ok(())
    }

    fn postpone(&self, over: LedgerEntry, refused: &mut VecDeque<LedgerEntry>, error: &Error) {
        tracing::error!(receipt.id = %over.id(), error = ?error, "a receipt could not be written yet");
        refused.push_back(over);
    }

    /// One transaction: receipts at the end of their accounts' chains, the sums that they belong to, and alerts where
    /// those say that one is due.
    async fn write(&mut self, batch: &[LedgerEntry], before: WriteAttempt) -> Result<()> {
        // Taken out, and put back after the commit: after a failed or unanswered commit the ends of the chains are
        // unknown, and the next batch reads them from the database.
        let mut heads = std::mem::take(&mut self.heads);
        let tx = self.db.begin().await?;
        // Read in the transaction and under a shared row lock: a platform that takes the books over waits for this
        // commit, so that two platforms never append to one chain.
        if store::epoch(&tx).await? != self.epoch {
            self.closed.store(true, Ordering::Relaxed);
            tracing::error!("another platform has opened the books: this one admits no calls any more");
            return Err(Error::Internal(anyhow::anyhow!("another platform has opened the books")));
        }
        // Only a retry can meet its own receipts, after the answer to a commit was lost; a new batch skips the query.
        let there = match before {
            WriteAttempt::New => HashSet::new(),
            WriteAttempt::Tried => {
                let ids: Vec<_> = batch.iter().map(LedgerEntry::id).collect();
                store::existing_receipts(&tx, &ids).await?
            }
        };
        let mut receipts: Vec<Receipt> = Vec::with_capacity(batch.len());
        let mut spent = SpendIncrements::default();
        let mut newest: HashMap<AccountId, usize> = HashMap::new();
        for over in batch.iter().filter(|over| !there.contains(&over.id())) {
            let mut receipt = over.receipt();
            let account = receipt.account_id;
            let head = match heads.entry(account) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(store::head(&tx, account).await?),
            };
            head.append(&mut receipt);
            newest.insert(account, receipts.len());
            spent.add(&receipt, over.allowance_nanodollars);
            receipts.push(receipt);
        }
        // One signature per account and batch: the hash chain makes it vouch for every receipt before it.
        for at in newest.into_values() {
            receipts[at].signature = self.signer.sign(&receipts[at].hash);
        }
        store::add_receipts(&tx, &receipts).await?;
        store::add_spent(&tx, spent).await?;
        thresholds::raise_alerts(&tx, batch).await?;
        tx.commit().await?;
        self.heads = heads;
        receipts.iter().for_each(report);
        Ok(())
    }

    /// Rotates the journal when it has grown, and deletes the old file once all of it is in the database.
    async fn shorten_journal(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<LedgerMessage>,
        refused: &mut VecDeque<LedgerEntry>,
    ) {
        // The journal has the only durable copy of a refused entry, and a second rotation would overwrite the old file.
        if self.journal.bytes() < JOURNAL_BYTES || !refused.is_empty() {
            return;
        }
        let begun = self.journal.begin_new();
        // The journal hands an entry over under the same lock as it writes it, so every settlement in the old file is
        // in this queue by now.
        let mut handed_over = Vec::new();
        while let Ok(message) = messages.try_recv() {
            match message {
                LedgerMessage::Entry(over) => handed_over.push(*over),
                LedgerMessage::Flush(done) => drop(done.send(())),
            }
        }
        self.carry_over(handed_over, refused).await;
        if let Err(error) = begun.and_then(|()| if refused.is_empty() { self.journal.forget_old() } else { Ok(()) }) {
            tracing::error!(%error, "the quota journal could not be begun anew");
        }
    }
}

/// `first`, and the messages that come within `GATHER` of it or until `hurry` is notified. The task sleeps meanwhile:
/// to wake it for each message would cost the sending call more than its settlement does.
async fn gather(
    first: LedgerMessage,
    messages: &mut mpsc::UnboundedReceiver<LedgerMessage>,
    hurry: &Notify,
) -> (Vec<LedgerEntry>, Vec<oneshot::Sender<()>>) {
    if matches!(first, LedgerMessage::Entry(_)) {
        // The timeout and the notification both end the batch.
        let _ = tokio::time::timeout(GATHER, hurry.notified()).await;
    }
    let (mut batch, mut flushed) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            LedgerMessage::Entry(over) => batch.push(*over),
            LedgerMessage::Flush(done) => flushed.push(done),
        }
        next = messages.try_recv().ok();
    }
    (batch, flushed)
}

fn report(receipt: &Receipt) {
    let Receipt { id, instance_id, provider, model, held_nanodollars, amount_nanodollars, basis, outcome, .. } =
        receipt;
    if receipt.corrects.is_none() && amount_nanodollars > held_nanodollars {
        tracing::error!(receipt.id = %id, model, amount_nanodollars = amount_nanodollars.0,
            held_nanodollars = held_nanodollars.0,
            "the provider charged more than its bound; look at the price table and the rules");
    }
    tracing::debug!(receipt.id = %id, instance.id = %instance_id, provider, model,
        amount_nanodollars = amount_nanodollars.0, basis, outcome, "call settled");
}
