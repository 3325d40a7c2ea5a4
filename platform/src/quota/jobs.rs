//! The settling task: the one place that turns holds into receipts, in the order in which calls ended.
//!
//! A call that ends, or whose task is dropped, hands its hold over without waiting; so no end of a call, however
//! sudden, can leak a hold or make a stream wait for the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::entities::holds;
use super::rules::{self, Bound, Outcome, Price, Seen};
use super::{Receipt, in_hand, store};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Result;

/// How often a settlement that the database refused is tried, a second apart. After that the hold is an orphan, for
/// [`super::Quota::settle_orphans`].
const TRIES: u32 = 300;

pub enum Message {
    Settle(Box<Ended>),
    /// Answered when everything handed over before has been settled or given up.
    Flush(oneshot::Sender<()>),
}

/// A call that is over.
pub struct Ended {
    pub hold: holds::Model,
    pub price: Arc<Price>,
    pub bound: Bound,
    pub seen: Seen,
    pub outcome: Outcome,
    /// The provider's own usage figures as JSON, or nothing.
    pub usage: String,
    /// Lets go of the hold when this is dropped.
    pub _in_hand: in_hand::Mark,
}

/// Settles what comes in until the last sender is gone.
pub async fn settle_ended_calls(db: Db, clock: Clock, mut ended: mpsc::UnboundedReceiver<Message>) {
    while let Some(message) = ended.recv().await {
        match message {
            Message::Settle(ended) => settle_with_patience(&db, &clock, &ended).await,
            Message::Flush(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

async fn settle_with_patience(db: &Db, clock: &Clock, ended: &Ended) {
    for attempt in 1..=TRIES {
        match settle(db, clock, ended).await {
            Ok(Some(receipt)) => return report(&receipt),
            Ok(None) => return,
            Err(error) => {
                tracing::error!(hold.id = %ended.hold.id, attempt, error = ?error, "a call could not be settled");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn settle(db: &Db, clock: &Clock, ended: &Ended) -> Result<Option<Receipt>> {
    let charge = rules::charge(&ended.price, &ended.bound, ended.seen);
    let tx = db.begin().await?;
    let receipt = store::settle(&tx, &ended.hold, &charge, ended.outcome, ended.usage.clone(), clock.now()).await?;
    tx.commit().await?;
    Ok(receipt)
}

fn report(receipt: &Receipt) {
    let Receipt { id, instance, provider, model, held_nanodollars, amount_nanodollars, basis, outcome } = receipt;
    if amount_nanodollars > held_nanodollars {
        tracing::error!(receipt.id = %id, model, amount_nanodollars, held_nanodollars,
            "the provider charged more than its bound; look at the price table and the rules");
    }
    tracing::info!(receipt.id = %id, instance.id = %instance, provider, model, amount_nanodollars,
        basis = basis.as_str(), outcome = outcome.as_str(), "call settled");
}
