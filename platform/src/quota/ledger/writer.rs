//! The ledger: carries what is over from the journal into the database, in batches, as receipts.
//!
//! Nothing waits for it but readers. What the database refuses stays in the journal and is tried again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::chain::{Head, Signer};
use super::corrections::Waiting;
use super::journal::{Intent, Journal, Settlement};
use crate::clock::Timestamp;
use crate::db::{AccountId, Db, HoldId};
use crate::error::{Error, Result};
use crate::quota::entities::receipts::Model as Receipt;
use crate::quota::prices::rules::Charge;
use crate::quota::prices::unknown_models;
use crate::quota::reports::alerts;
use crate::quota::store::{self, Spent};

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// Receipts carried over in one transaction, which also costs a signature and a few sums for each account in it. So near
/// each receipt is the signature that vouches for it, which is looked for at a thousand.
const BATCH: usize = 900;
/// After how long what the database refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// From this size on, the journal is begun anew.
const JOURNAL_BYTES: u64 = 8 * 1024 * 1024;

pub enum Message {
    Over(Box<Over>),
    /// Answered when everything handed over before is in the database, or was refused by it at least once.
    Flush(oneshot::Sender<()>),
}

/// What becomes a receipt.
#[derive(Clone, Debug)]
pub struct Over {
    pub what: What,
    /// The account's allowance for the month, to be shown beside what was spent of it.
    pub allowance_nanodollars: i64,
    /// The day's, where it has one and that is known.
    pub day_allowance_nanodollars: Option<i64>,
}

/// A call that is over, or a correction of one, as a receipt that has no place in the chain yet.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are calls, and each is handed over in a box")]
pub enum What {
    Call { intent: Intent, settlement: Settlement },
    Correction(Box<Receipt>),
}

impl Over {
    pub fn id(&self) -> HoldId {
        match &self.what {
            What::Call { intent, .. } => intent.id,
            What::Correction(receipt) => receipt.id,
        }
    }

    pub fn account(&self) -> AccountId {
        match &self.what {
            What::Call { intent, .. } => intent.account,
            What::Correction(receipt) => receipt.account_id,
        }
    }

    /// The month and the day of which it is part.
    pub fn booked_on(&self) -> (&str, &str) {
        match &self.what {
            What::Call { intent, .. } => (&intent.period, &intent.day),
            What::Correction(receipt) => (&receipt.period, &receipt.day),
        }
    }

    pub fn at(&self) -> Timestamp {
        match &self.what {
            What::Call { settlement, .. } => settlement.at,
            What::Correction(receipt) => Timestamp(receipt.settled_at_ms),
        }
    }

    fn is_correction(&self) -> bool {
        matches!(self.what, What::Correction(_))
    }

    /// Its receipt, before that has its place in the chain.
    fn receipt(&self) -> Receipt {
        match &self.what {
            What::Call { intent, settlement } => receipt(intent, settlement),
            What::Correction(receipt) => (**receipt).clone(),
        }
    }
}

/// Whether what is to be written may be in the database already.
#[derive(Clone, Copy)]
enum Before {
    New,
    /// A commit whose answer was lost, or a journal that is read again.
    Tried,
}

/// Who writes receipts.
pub struct Ledger {
    pub db: Db,
    pub signer: Arc<Signer>,
    pub journal: Arc<Journal>,
    /// The opening of the books that this is.
    pub epoch: i64,
    /// Set when another platform has opened them since.
    pub closed: Arc<AtomicBool>,
    /// Somebody waits for what was handed over.
    pub hurry: Arc<Notify>,
    /// Corrections that were accepted and are not in the database yet.
    pub waiting: Arc<Waiting>,
    pub heads: HashMap<AccountId, Head>,
}

impl Ledger {
    /// Carries over what comes in, until the last sender is gone and all is carried over.
    pub async fn keep(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut refused: VecDeque<Over> = VecDeque::new();
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
                            // Whoever asked may have stopped waiting.
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

    /// Writes a batch. What the database refuses together is tried one by one, so that one call that cannot be written
    /// keeps no other waiting.
    async fn carry_over(&mut self, batch: Vec<Over>, refused: &mut VecDeque<Over>) {
        let mut batch = batch;
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            match self.write(&batch, Before::New).await {
                Ok(()) => self.waiting.ended(batch.iter().filter(|over| over.is_correction()).count()),
                Err(_) => {
                    for over in batch {
                        match self.write(std::slice::from_ref(&over), Before::Tried).await {
                            Ok(()) => self.waiting.ended(usize::from(over.is_correction())),
                            Err(error) => self.postpone(over, refused, &error),
                        }
                    }
                }
            }
            batch = rest;
        }
    }

    /// Writes all of it, or none of a batch that the database refuses: for the start, which goes on only with all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn carry_over_all(&mut self, over: Vec<Over>) -> Result<()> {
        for batch in over.chunks(BATCH) {
            self.write(batch, Before::Tried).await?;
        }
        Ok(())
    }

    fn postpone(&self, over: Over, refused: &mut VecDeque<Over>, error: &Error) {
        tracing::error!(receipt.id = %over.id(), error = ?error, "a receipt could not be written yet");
        refused.push_back(over);
    }

    /// One transaction: receipts at the end of their accounts' chains, the sums that they belong to, and alerts where those
    /// say that one is due.
    async fn write(&mut self, batch: &[Over], before: Before) -> Result<()> {
        // Until the commit is known, nobody knows where the chains end.
        let mut heads = std::mem::take(&mut self.heads);
        let tx = self.db.begin().await?;
        if store::epoch(&tx).await? != self.epoch {
            self.closed.store(true, Ordering::Relaxed);
            tracing::error!("another platform has opened the books: this one admits no calls any more");
            return Err(Error::Internal(anyhow::anyhow!("another platform has opened the books")));
        }
        let there = match before {
            Before::New => HashSet::new(),
            Before::Tried => {
                let ids: Vec<_> = batch.iter().map(Over::id).collect();
                store::receipts_there(&tx, &ids).await?
            }
        };
        let mut receipts: Vec<Receipt> = Vec::with_capacity(batch.len());
        let mut spent = Spent::default();
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
        for at in newest.into_values() {
            receipts[at].signature = self.signer.sign(&receipts[at].hash);
        }
        store::add_receipts(&tx, &receipts).await?;
        store::add_spent(&tx, spent).await?;
        alerts::raise(&tx, batch).await?;
        tx.commit().await?;
        self.heads = heads;
        receipts.iter().for_each(report);
        Ok(())
    }

    /// Begins the journal anew when it has grown, and forgets the old file once all of it is in the database.
    async fn shorten_journal(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>, refused: &mut VecDeque<Over>) {
        if self.journal.bytes() < JOURNAL_BYTES || !refused.is_empty() {
            return;
        }
        let begun = self.journal.begin_new();
        // Settled before the new file began, so in the old one: it has been handed over by now, or is a moment later.
        let mut handed_over = Vec::new();
        while let Ok(message) = messages.try_recv() {
            match message {
                Message::Over(over) => handed_over.push(*over),
                Message::Flush(done) => drop(done.send(())),
            }
        }
        self.carry_over(handed_over, refused).await;
        if let Err(error) = begun.and_then(|()| if refused.is_empty() { self.journal.forget_old() } else { Ok(()) }) {
            tracing::error!(%error, "the quota journal could not be begun anew");
        }
    }
}

/// `first`, and what comes within a moment of it or until somebody is in a hurry. Nothing of it wakes this task in
/// between, because each wake would cost the call that brought it more than its settlement does.
async fn gather(
    first: Message,
    messages: &mut mpsc::UnboundedReceiver<Message>,
    hurry: &Notify,
) -> (Vec<Over>, Vec<oneshot::Sender<()>>) {
    if matches!(first, Message::Over(_)) {
        // Either end of it is the end of the moment.
        let _ = tokio::time::timeout(GATHER, hurry.notified()).await;
    }
    let (mut batch, mut flushed) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Over(over) => batch.push(*over),
            Message::Flush(done) => flushed.push(done),
        }
        next = messages.try_recv().ok();
    }
    (batch, flushed)
}

/// The receipt of a call, before it has its place in the chain.
fn receipt(intent: &Intent, settlement: &Settlement) -> Receipt {
    let Charge { amount_nanodollars, basis, usage } = settlement.charge;
    let tokens = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Receipt {
        id: intent.id,
        account_id: intent.account,
        instance_id: intent.instance,
        period: intent.period.clone(),
        day: intent.day.clone(),
        provider: intent.provider.clone(),
        model: intent.model.clone(),
        agent: intent.agent.clone(),
        price_version: intent.price_version.clone(),
        held_nanodollars: intent.held_nanodollars,
        amount_nanodollars,
        input_tokens: tokens(usage.input_tokens),
        cache_write_tokens: tokens(usage.cache_write_tokens),
        cache_write_long_tokens: tokens(usage.cache_write_long_tokens),
        cache_read_tokens: tokens(usage.cache_read_tokens),
        output_tokens: tokens(usage.output_tokens),
        basis: basis.as_str().into(),
        outcome: settlement.outcome.as_str().into(),
        counted: serde_json::to_string(&usage).expect("usage is always JSON"),
        usage: settlement.usage.clone(),
        held_at_ms: intent.at.0,
        settled_at_ms: settlement.at.0,
        corrects: None,
        reason: if intent.at_the_dearest { unknown_models::REASON.to_owned() } else { String::new() },
        seq: 0,
        previous: String::new(),
        hash: String::new(),
        signature: String::new(),
        payer: intent.payer.as_str().into(),
        worth_nanodollars: settlement.worth_nanodollars,
    }
}

fn report(receipt: &Receipt) {
    let Receipt { id, instance_id, provider, model, held_nanodollars, amount_nanodollars, basis, outcome, .. } =
        receipt;
    if receipt.corrects.is_none() && amount_nanodollars > held_nanodollars {
        tracing::error!(receipt.id = %id, model, amount_nanodollars, held_nanodollars,
            "the provider charged more than its bound; look at the price table and the rules");
    }
    tracing::debug!(receipt.id = %id, instance.id = %instance_id, provider, model, amount_nanodollars,
        basis, outcome, "call settled");
}
