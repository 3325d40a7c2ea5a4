//! Webhooks: a durable inbox for each instance, from which requests are delivered to the program inside at least once.
//!
//! - **Durable queue.** A POST or PUT to a path that the owner opened is a row in the database before its sender reads
//!   202. The instance may sleep meanwhile: a waiting delivery wakes it.
//! - **At least once.** A delivery is attempted until the program answers 2xx. It is delivered again when that answer
//!   was lost, always with the same id (`X-Berth-Delivery`): the receiver processes idempotently by remembering ids.
//! - **Order.** The deliveries of one path are attempted in the order of arrival, and a refused one blocks those behind
//!   it. Paths do not block each other.
//! - **Exponential backoff.** From ten seconds, doubling to four hours, for three days after arrival
//!   ([`backoff_after`]).
//! - **Dead letters.** A delivery that is refused until the end of the window, or answered with 410, is kept until its
//!   owner retries or discards it.
//! - **Limits.** Token buckets for senders and for wakes (`limits.rs`), a size limit for each inbox and for all
//!   (`rules.rs`).
//!
//! Single writer: open paths and sizes are cached in memory, because anyone may send at any rate, and the sequence
//! numbers come from a counter in memory. A second platform process on the same database would break both.
//!
//! Alarms enqueue their deliveries here too. The edge receives and sends the requests (`edge/webhook_intake.rs`,
//! `edge/webhook_delivery.rs`).

mod attempts;
mod delivery;
mod enqueue;
mod inbox;
mod limits;
mod registration;
mod rules;
mod store;

use std::net::IpAddr;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use attempts::DueDeliveries;
use berth_ground::clock::Clock;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::Token;
pub use delivery::{DeliveryAttempt, DeliveryId, DeliveryState, DeliveryView, WebhookDelivery, WebhookRequest};
pub use enqueue::{AlarmDelivery, IntakeError, UncommittedDelivery};
use inbox::Inboxes;
pub use inbox::{InboxCounts, WebhookPath};
use limits::WebhookRateLimits;
pub use rules::{
    AttemptOutcome, MAX_BODY_BYTES, MAX_DELIVERIES, MAX_HEAD_BYTES, MAX_INBOX_BYTES, MAX_PATHS, RETRY_WINDOW,
    backoff_after, check_path,
};
use tokio::sync::Notify;

use crate::db::{Db, InstanceId, Tx};

/// The inboxes of all instances. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<WebhooksInner>);

struct WebhooksInner {
    db: Db,
    clock: Clock,
    limits: WebhookRateLimits,
    inboxes: Mutex<Inboxes>,
    /// The sequence number of the newest delivery.
    sequence: AtomicI64,
    /// Held while a path is opened. Otherwise two requests could both count one path fewer than the limit, and both
    /// insert.
    opening: tokio::sync::Mutex<()>,
    /// Wakes the dispatcher when a delivery is due now.
    due: Notify,
}

/// The suffix that a path gets when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSuffix {
    None,
    /// 132 random bits, for senders that do not sign their requests: the path is then the secret (a capability URL).
    Unguessable,
}

impl Webhooks {
    /// Reads the open paths and the size of each inbox from the database.
    pub async fn open(db: Db, clock: Clock) -> Result<Self> {
        let mut inboxes = Inboxes::default();
        for (instance, path, opened_at) in store::paths(&db).await? {
            inboxes.inbox(instance).paths.push(WebhookPath { path, opened_at });
        }
        for summary in store::summaries(&db).await? {
            inboxes.load(&summary);
        }
        let sequence = store::last_sequence(&db).await?;
        Ok(Self(Arc::new(WebhooksInner {
            limits: WebhookRateLimits::new(clock.clone()),
            db,
            clock,
            inboxes: Mutex::new(inboxes),
            sequence: AtomicI64::new(sequence),
            opening: tokio::sync::Mutex::default(),
            due: Notify::new(),
        })))
    }

    /// Opens `path` for requests from anyone, and returns it with its suffix.
    ///
    /// # Errors
    /// `Invalid` for text that cannot be a path; `Conflict` when the path is open already, or [`MAX_PATHS`] are.
    pub async fn open_path(&self, instance: InstanceId, path: &str, suffix: PathSuffix) -> Result<WebhookPath> {
        let path = match suffix {
            PathSuffix::None => path.to_owned(),
            PathSuffix::Unguessable => {
                format!("{}/{}", path.trim_end_matches('/'), &Token::new(&self.0.clock).reveal()[..22])
            }
        };
        check_path(&path).map_err(|sentence| Error::invalid("path", sentence))?;
        let _one_at_a_time = self.0.opening.lock().await;
        if self.paths(instance).len() >= MAX_PATHS {
            return Err(Error::Conflict(format!("{MAX_PATHS} paths are open, as many as may be. Close one first.")));
        }
        let opened = WebhookPath { path, opened_at: self.0.clock.now() };
        let tx = self.0.db.begin().await?;
        if !store::open_path(&tx, instance, &opened.path, opened.opened_at).await? {
            return Err(Error::Conflict("This path is open already.".into()));
        }
        tx.commit().await?;
        // Memory follows the commit, never the reverse: a path that is open only in memory would be closed by a
        // restart.
        self.inboxes().inbox(instance).paths.push(opened.clone());
        Ok(opened)
    }

    /// Closes `path`. Requests that were accepted before are still delivered.
    ///
    /// # Errors
    /// `NotFound` when the path is not open.
    pub async fn close_path(&self, instance: InstanceId, path: &str) -> Result<()> {
        let tx = self.0.db.begin().await?;
        if !store::close_path(&tx, instance, path).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        self.inboxes().inbox(instance).paths.retain(|open| open.path != path);
        Ok(())
    }

    /// The open paths of an instance, sorted.
    #[must_use]
    pub fn paths(&self, instance: InstanceId) -> Vec<WebhookPath> {
        let mut paths = self.inboxes().look(instance, |inbox| inbox.paths.clone());
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths
    }

    /// Whether `path` is open. Answered from memory: the edge calls this for every POST and PUT.
    #[must_use]
    pub fn is_open(&self, instance: InstanceId, path: &str) -> bool {
        self.inboxes().look(instance, |inbox| inbox.paths.iter().any(|open| open.path == path))
    }

    /// Counts a request against the rate limits of sender and instance, before any of its body is read.
    ///
    /// # Errors
    /// `TooMany` with the time to retry after.
    pub fn check_rate(&self, instance: InstanceId, from: IpAddr) -> Result<()> {
        self.0.limits.check_request(instance, from)
    }

    /// Makes a delivery due now and restarts its retry window. A dead letter waits again.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such delivery, or it was delivered.
    pub async fn retry(&self, instance: InstanceId, id: DeliveryId) -> Result<()> {
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let before = store::retry(&tx, instance, id, now, now.plus(RETRY_WINDOW)).await?.ok_or(Error::NotFound)?;
        tx.commit().await?;
        if before == DeliveryState::DeadLetter {
            self.inboxes().revive(instance);
        }
        // An earlier delivery may still block its path: the run that begins now then only finds that out.
        self.schedule(instance, now);
        Ok(())
    }

    /// Deletes a delivery that is waiting or a dead letter.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such delivery, or it was delivered.
    pub async fn discard(&self, instance: InstanceId, id: DeliveryId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let (state, bytes) = store::discard(&tx, instance, id).await?.ok_or(Error::NotFound)?;
        tx.commit().await?;
        // Order: after the commit, because a rollback must not release the space.
        self.inboxes().release(instance, state, bytes);
        // The deleted delivery may have blocked the next one of its path.
        self.schedule(instance, self.0.clock.now());
        Ok(())
    }

    /// The newest deliveries in one state, newest first, at most `limit`.
    pub async fn deliveries(
        &self,
        instance: InstanceId,
        state: DeliveryState,
        limit: u64,
    ) -> Result<Vec<DeliveryView>> {
        store::latest(&self.0.db, instance, state, i64::MAX, limit).await
    }

    /// The newest deliveries in one state that arrived before `cursor`, newest first, at most `limit`.
    ///
    /// # Errors
    /// `Invalid` when the instance has no delivery with the id `cursor`, in any state.
    pub async fn deliveries_before(
        &self,
        instance: InstanceId,
        state: DeliveryState,
        cursor: DeliveryId,
        limit: u64,
    ) -> Result<Vec<DeliveryView>> {
        let db = &self.0.db;
        let sequence = store::sequence(db, instance, cursor).await?.ok_or_else(|| {
            Error::invalid("before", "There is no such delivery any more. Request the list again without before.")
        })?;
        store::latest(db, instance, state, sequence, limit).await
    }

    /// The size of one inbox.
    #[must_use]
    pub fn counts(&self, instance: InstanceId) -> InboxCounts {
        self.inboxes().look(instance, |inbox| inbox.counts)
    }

    /// The size of all inboxes together.
    #[must_use]
    pub fn total_counts(&self) -> InboxCounts {
        self.inboxes().total_counts()
    }

    /// Deletes the paths and deliveries of `instance` in the caller's transaction. [`Webhooks::forget`] must be called
    /// after the commit.
    pub async fn forget_in(&self, tx: &Tx, instance: InstanceId) -> Result<()> {
        store::forget(tx, instance).await
    }

    /// Removes from memory the rows that [`Webhooks::forget_in`] deleted.
    pub fn forget(&self, instance: InstanceId) {
        self.inboxes().forget(instance);
    }

    fn inboxes(&self) -> MutexGuard<'_, Inboxes> {
        self.0.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
