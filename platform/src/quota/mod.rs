//! Quota: what a call may cost is held before it is made, and what it did cost is settled after.
//!
//! A hold is an upper bound, taken in one atomic step and written down before the first byte goes to the provider.
//! What does not fit is refused. So an account can never spend more than its allowance, however many calls it makes
//! at once; and a hold that a crash left behind is settled at the next start, any other that was lost on schedule; so nothing stays held for
//! nothing.

mod entities;
mod in_hand;
mod jobs;
mod prices;
mod rules;
mod store;

use std::sync::Arc;
use std::time::Duration;

pub use rules::{Basis, Bound, CacheWrites, Demand, InputBound, Outcome, Provider, Seen, Usage, dollars};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Timestamp};
use crate::db::{AccountId, Db, HoldId, InstanceId, Tx};
use crate::error::{Error, Result};
use entities::holds;
use in_hand::InHand;
use jobs::{Ended, Message};
use prices::PriceBook;
use rules::Price;

/// The longest that an answer in one piece may take. A stream that goes on for longer is known to be in flight.
pub const LONGEST_CALL: Duration = Duration::from_secs(3600);
/// How long a reader or a call about to be refused waits for calls that just ended to be settled.
const SETTLING_PATIENCE: Duration = Duration::from_secs(2);
/// The input of a model that is not asked for its long context.
const USUAL_CONTEXT: u64 = 200_000;
/// What a caller with too many calls in flight is told to wait: calls take seconds, and SDKs back off by themselves.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Quota(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    allowance_nanodollars: i64,
    calls_at_once: u64,
    prices: PriceBook,
    /// Holds of this process, from before they are written until they are settled.
    in_hand: InHand,
    ended: mpsc::UnboundedSender<Message>,
}

/// A call that wants to be made.
#[derive(Clone, Debug)]
pub struct Call {
    pub account: AccountId,
    pub instance: InstanceId,
    pub demand: Demand,
}

/// Why a call may not be made. Nothing was held.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no price for it.
    #[error("no price for model {model}")]
    UnknownModel { model: String },
    /// The price table does not limit what it could cost, and neither does the call.
    #[error("no bound for model {model}")]
    NoBound { model: String },
    /// It could cost more than is left.
    #[error("over the allowance")]
    OverAllowance { left_nanodollars: i64, held_nanodollars: i64, needed_nanodollars: i64, resets_on: String },
    /// As many calls as are allowed are in flight.
    #[error("too many calls at once")]
    TooManyAtOnce { limit: u64, retry_after: Duration },
    /// The books cannot be read or written just now.
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// What an account spent on AI calls in one calendar month.
#[derive(Clone, Debug, Serialize)]
pub struct Spend {
    /// The month in UTC, `2026-11`.
    pub period: String,
    pub allowance_nanodollars: i64,
    pub spent_nanodollars: i64,
    /// Held for calls in flight; not spendable meanwhile.
    pub held_nanodollars: i64,
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModelSpend {
    pub provider: String,
    pub model: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: i64,
}

/// What a call came to.
#[derive(Clone, Debug)]
struct Receipt {
    id: HoldId,
    instance: InstanceId,
    provider: String,
    model: String,
    held_nanodollars: i64,
    amount_nanodollars: i64,
    basis: Basis,
    outcome: Outcome,
}

impl Quota {
    /// Opens the books and changes nothing in them. The platform that makes calls then says so with
    /// [`Quota::begin`]; a command of the operator does not, and its settings may be others than the platform's.
    ///
    /// # Errors
    /// When the price table that was built in cannot be read.
    pub fn open(db: Db, clock: Clock, allowance_nanodollars: i64, calls_at_once: u32) -> Result<Self> {
        let prices = PriceBook::embedded()?;
        let (ended, queue) = mpsc::unbounded_channel();
        tokio::spawn(jobs::settle_ended_calls(db.clone(), clock.clone(), queue));
        let calls_at_once = u64::from(calls_at_once);
        let in_hand = InHand::default();
        Ok(Self(Arc::new(Inner { db, clock, allowance_nanodollars, calls_at_once, prices, in_hand, ended })))
    }

    /// Makes the books ready for calls; call it once, before the first. Imports the price table, gives this and later
    /// months the allowance of now, and settles the holds that a crash left behind, so that nobody is refused because
    /// of them. Only one platform may have a database open: another one's calls in flight look like orphans.
    ///
    /// # Errors
    /// When the database does not answer; nothing has changed then.
    pub async fn begin(&self) -> Result<()> {
        let Inner { db, clock, allowance_nanodollars, prices, .. } = &*self.0;
        let tx = db.begin().await?;
        store::import_prices(&tx, prices).await?;
        store::set_allowances(&tx, &rules::period(clock.now()), *allowance_nanodollars).await?;
        let orphans = self.settle_orphans_in(&tx, Timestamp(i64::MAX)).await?;
        tx.commit().await?;
        if orphans > 0 {
            tracing::warn!(calls = orphans, "calls were cut off by the last stop; charged as held");
        }
        Ok(())
    }

    /// Settles what no call stands behind any more though the platform runs: a hold whose commit was not answered, or
    /// whose settlement the database refused for too long. How many there were. A call that this process still has in
    /// its hands is left alone however old it is, and any other for as long as a call may take.
    ///
    /// # Errors
    /// When the database does not answer; nothing has changed then.
    pub async fn settle_orphans(&self) -> Result<u64> {
        let tx = self.0.db.begin().await?;
        let orphans = self.settle_orphans_in(&tx, self.0.clock.now().minus(LONGEST_CALL)).await?;
        tx.commit().await?;
        Ok(orphans)
    }

    /// An orphan is charged whole, because the provider may have charged it (basis `held`, outcome `recovered`).
    async fn settle_orphans_in(&self, tx: &Tx, held_before: Timestamp) -> Result<u64> {
        let mut settled = 0;
        for hold in store::holds_before(tx, held_before).await? {
            // Looked at after the row was read: a call that ended in between has taken its row along, and nothing happens.
            if self.0.in_hand.contains(hold.id) {
                continue;
            }
            let whole = rules::Charge {
                amount_nanodollars: hold.amount_nanodollars,
                basis: Basis::Held,
                usage: Usage::default(),
            };
            let receipt =
                store::settle(tx, &hold, &whole, Outcome::Recovered, String::new(), self.0.clock.now()).await?;
            settled += u64::from(receipt.is_some());
        }
        Ok(settled)
    }

    /// Holds what `call` can cost at most. After this returns the intent is on disk, and the call may be made.
    ///
    /// # Errors
    /// Why the call may not be made. It is never refused because of a call that ended before it came.
    pub async fn admit(&self, call: Call) -> std::result::Result<Hold, Refusal> {
        let room = self.clone();
        // In a task of its own, because whoever asks may be dropped at any point, also between commit and answer.
        // The hold is then dropped where the task ends, and that settles it.
        tokio::spawn(async move { room.admit_undisturbed(&call).await })
            .await
            .map_err(|e| Refusal::Unavailable(Error::Internal(anyhow::Error::new(e).context("admitting a call"))))?
    }

    async fn admit_undisturbed(&self, call: &Call) -> std::result::Result<Hold, Refusal> {
        let model = || call.demand.model.clone();
        let price = self
            .0
            .prices
            .find(call.demand.provider, &call.demand.model)
            .ok_or_else(|| Refusal::UnknownModel { model: model() })?;
        let bound = rules::bound(&price, &call.demand).map_err(|_| Refusal::NoBound { model: model() })?;
        let needed = bound.total_nanodollars();
        if let Err(refusal) = self.looks_to_fit(call, needed).await {
            // What is held for calls in flight may come back just now; what is spent does not.
            let hopeless = matches!(&refusal, Refusal::OverAllowance { left_nanodollars, held_nanodollars, .. }
                if left_nanodollars.saturating_add(*held_nanodollars) < needed);
            if hopeless {
                return Err(refusal);
            }
            self.settled().await;
            self.looks_to_fit(call, needed).await?;
        }
        match self.try_hold(call, &price, bound).await {
            Err(Refusal::OverAllowance { .. } | Refusal::TooManyAtOnce { .. }) => {
                self.settled().await;
                self.try_hold(call, &price, bound).await
            }
            admitted => admitted,
        }
    }

    /// A first look, without the one connection that writes: calls without end that do not fit keep nobody waiting.
    async fn looks_to_fit(&self, call: &Call, needed_nanodollars: i64) -> std::result::Result<(), Refusal> {
        let Inner { db, clock, allowance_nanodollars, calls_at_once, .. } = &*self.0;
        let now = clock.now();
        let row = store::allowance(db.read(), call.account, &rules::period(now)).await?;
        let allowance = row.as_ref().map_or(*allowance_nanodollars, |row| row.allowance_nanodollars);
        let (spent, held) = row.map_or((0, 0), |row| (row.spent_nanodollars, row.held_nanodollars));
        let left_nanodollars = allowance - spent - held;
        if left_nanodollars < needed_nanodollars {
            let resets_on = rules::resets_on(now);
            return Err(Refusal::OverAllowance {
                left_nanodollars,
                held_nanodollars: held,
                needed_nanodollars,
                resets_on,
            });
        }
        if store::calls_in_flight(db.read(), call.account).await? >= *calls_at_once {
            return Err(Refusal::TooManyAtOnce { limit: *calls_at_once, retry_after: TRY_AGAIN });
        }
        Ok(())
    }

    async fn try_hold(&self, call: &Call, price: &Arc<Price>, bound: Bound) -> std::result::Result<Hold, Refusal> {
        let Inner { db, clock, allowance_nanodollars, calls_at_once, prices, in_hand, .. } = &*self.0;
        let now = clock.now();
        let hold = holds::Model {
            id: HoldId(clock.uuid()),
            account_id: call.account,
            instance_id: call.instance,
            period: rules::period(now),
            provider: call.demand.provider.as_str().into(),
            model: call.demand.model.clone(),
            price_version: prices.version.clone(),
            amount_nanodollars: bound.total_nanodollars(),
            at_ms: now.0,
        };
        let in_hand = in_hand.take(hold.id);
        let tx = db.begin().await?;
        store::ensure_allowance(&tx, call.account, &hold.period, *allowance_nanodollars).await?;
        if !store::take(&tx, call.account, &hold.period, hold.amount_nanodollars).await? {
            let row = store::allowance(&*tx, call.account, &hold.period).await?.ok_or(Error::NotFound)?;
            return Err(Refusal::OverAllowance {
                left_nanodollars: row.allowance_nanodollars - row.spent_nanodollars - row.held_nanodollars,
                held_nanodollars: row.held_nanodollars,
                needed_nanodollars: hold.amount_nanodollars,
                resets_on: rules::resets_on(now),
            });
        }
        // After the update, which made other admissions of this account wait: so the count cannot be outrun.
        if store::calls_in_flight(&*tx, call.account).await? >= *calls_at_once {
            return Err(Refusal::TooManyAtOnce { limit: *calls_at_once, retry_after: TRY_AGAIN });
        }
        store::insert_hold(&tx, &hold).await?;
        tx.commit().await?;
        let held = Held { hold, price: price.clone(), bound, in_hand };
        Ok(Hold { held: Some(held), sent: false, ended: self.0.ended.clone() })
    }

    /// Returns when every call that ended before now has its receipt, or after two seconds. For tests, for pages that
    /// show what was just spent, and for an orderly stop.
    pub async fn settled(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.ended.send(Message::Flush(done)).is_ok() {
            // Late or gone: the reader sees books that are a moment old.
            let _ = tokio::time::timeout(SETTLING_PATIENCE, wait).await;
        }
    }

    /// What `account` spent this month. An account that made no call yet has its whole allowance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spend(&self, account: AccountId) -> Result<Spend> {
        self.settled().await;
        let period = rules::period(self.0.clock.now());
        let row = store::allowance(self.0.db.read(), account, &period).await?;
        let by_model = store::spend_by_model(self.0.db.read(), account, &period).await?;
        Ok(Spend {
            period,
            allowance_nanodollars: row.as_ref().map_or(self.0.allowance_nanodollars, |r| r.allowance_nanodollars),
            spent_nanodollars: row.as_ref().map_or(0, |r| r.spent_nanodollars),
            held_nanodollars: row.as_ref().map_or(0, |r| r.held_nanodollars),
            by_model,
        })
    }

    /// Whether the books agree: for every account and month the holds sum to what is held, the receipts to what is
    /// spent. Returns a sentence for each that does not; `doctor` and tests expect none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn disagreements(&self) -> Result<Vec<String>> {
        disagreements(&self.0.db).await
    }
}

/// [`Quota::disagreements`] for whoever has only the database, such as `doctor`.
///
/// # Errors
/// When the database does not answer.
pub async fn disagreements(db: &Db) -> Result<Vec<String>> {
    // Calls go on meanwhile, and must not look like disagreements.
    store::disagreements(&db.begin_reading().await?).await
}

struct Held {
    hold: holds::Model,
    price: Arc<Price>,
    bound: Bound,
    in_hand: in_hand::Mark,
}

/// Money set aside for one call. It is settled once, by [`Hold::settle`] or by being dropped, and never leaks.
#[must_use = "dropping it settles it"]
pub struct Hold {
    held: Option<Held>,
    sent: bool,
    ended: mpsc::UnboundedSender<Message>,
}

impl Hold {
    /// The id of the hold, and of the receipt that it becomes. `None` only while it is being dropped.
    #[must_use]
    pub fn id(&self) -> Option<HoldId> {
        self.held.as_ref().map(|held| held.hold.id)
    }

    /// Whether the price table says that the model takes more input than the usual 200,000 tokens.
    #[must_use]
    pub fn takes_long_context(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.price.max_input_tokens.is_some_and(|most| most > USUAL_CONTEXT))
    }

    /// Says that the call is about to be sent: from now on the provider may charge for it.
    pub fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Hands the hold over to be settled. Does not wait; [`Quota::settled`] does.
    ///
    /// `usage`: the provider's own figures as JSON, kept with the receipt.
    pub fn settle(mut self, seen: Seen, outcome: Outcome, usage: String) {
        self.hand_over(seen, outcome, usage);
    }

    fn hand_over(&mut self, seen: Seen, outcome: Outcome, usage: String) {
        let Some(Held { hold, price, bound, in_hand }) = self.held.take() else { return };
        let ended = Box::new(Ended { hold, price, bound, seen, outcome, usage, _in_hand: in_hand });
        if self.ended.send(Message::Settle(ended)).is_err() {
            tracing::warn!("a call ended after the books were closed; it is settled at the next start");
        }
    }
}

impl Drop for Hold {
    /// The task of the call was dropped. Not sent yet, it cost nothing; sent, nobody knows what came of it.
    fn drop(&mut self) {
        let seen = if self.sent { Seen::CutOff { usage: None, output_tokens: 0 } } else { Seen::NoCharge };
        self.hand_over(seen, Outcome::ClientGone, String::new());
    }
}
