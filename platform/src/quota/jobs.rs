//! The settling task: the one place that turns holds into receipts, in the order in which calls ended.
//!
//! A call that ends, or whose task is dropped, hands its hold over without waiting; so no end of a call, however
//! sudden, can leak a hold or make a stream wait for the database.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::entities::holds;
use super::rules::{self, Bound, Outcome, Price, Seen};
use super::{Receipt, in_hand, store};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Result;

/// After how long settlements that the database refused are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub enum Message {
    Settle(Box<Ended>),
    /// Answered when everything handed over before has been settled, or refused by the database at least once.
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

/// Settles what comes in until the last sender is gone and all is settled. What the database refuses goes to the back
/// and is tried again, for as long as the process lives: one call that cannot be settled keeps no other waiting.
pub async fn settle_ended_calls(db: Db, clock: Clock, mut ended: mpsc::UnboundedReceiver<Message>) {
    let mut refused: VecDeque<Box<Ended>> = VecDeque::new();
    let mut due = 0;
    let mut rounds = tokio::time::interval(TRY_AGAIN);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_open = true;
    while is_open || !refused.is_empty() {
        let call = tokio::select! {
            message = ended.recv(), if is_open => match message {
                Some(Message::Settle(call)) => call,
                Some(Message::Flush(done)) => {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                    continue;
                }
                None => {
                    is_open = false;
                    continue;
                }
            },
            // Each that was refused once a round, between those that come in.
            () = std::future::ready(()), if due > 0 => {
                due -= 1;
                let Some(call) = refused.pop_front() else { continue };
                call
            }
            _ = rounds.tick(), if due == 0 && !refused.is_empty() => {
                due = refused.len();
                continue;
            }
        };
        match settle(&db, &clock, &call).await {
            Ok(Some(receipt)) => report(&receipt),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(hold.id = %call.hold.id, error = ?error, "a call could not be settled yet");
                refused.push_back(call);
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
