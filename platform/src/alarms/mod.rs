//! Alarms: a program asks for its own instance to be woken, once or by cron, and to be told on a path if it wants.
//!
//! Ringing writes a letter into the mailbox and moves the alarm on, in one transaction: from there on it is the letter that
//! wakes, and it is tried until the instance was awake. So nothing is lost when the platform dies in between, and what was
//! missed while it was down rings once.

mod registration;
mod rules;
mod store;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
pub use rules::{FURTHEST, LONGEST_NAME, MOST_ALARMS, Schedule, moment};

use crate::clock::{Clock, Ticks, Timestamp};
use crate::db::{Db, InstanceId, Tx};
use crate::error::{Error, Result};
use crate::instances::{Instances, Wish};
use crate::mailbox::{self, Mailbox};

/// Alarms one program may set or delete in a minute, and at once: each waits for the disk.
const CHANGES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
/// Alarms rung in one go; those left are rung in the next.
const AT_ONCE: u64 = 200;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Alarms(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    instances: Instances,
    mailbox: Mailbox,
    /// No alarm is due before this, in milliseconds: what the clock's every tick looks at.
    next_due_ms: AtomicI64,
    changes: RateLimiter<InstanceId, HashMapStateStore<InstanceId>, Ticks, NoOpMiddleware<Nanos>>,
    /// One at a time sets an alarm or rings, so that limits hold on either database and no tick overtakes another.
    changing: tokio::sync::Mutex<()>,
}

/// An alarm that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    pub schedule: Schedule,
    /// Where the program wants to be told; `None`: it only wants to be awake.
    pub path: Option<String>,
    pub set_at: Timestamp,
    /// When it rings next.
    pub due: Timestamp,
}

impl Alarms {
    /// Reads when the next alarm is due.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, instances: Instances, mailbox: Mailbox) -> Result<Self> {
        let next = store::next_due(&db).await?.unwrap_or(NEVER);
        let changes = RateLimiter::hashmap_with_clock(Quota::per_minute(CHANGES_PER_MINUTE), Ticks(clock.clone()));
        let changing = tokio::sync::Mutex::default();
        let next_due_ms = AtomicI64::new(next.0);
        Ok(Self(Arc::new(Inner { db, clock, instances, mailbox, next_due_ms, changes, changing })))
    }

    /// Sets the alarm called `name`, in the place of one that is called so already.
    ///
    /// # Errors
    /// `Invalid` with the field to blame; `Conflict` when as many are set as may be; `TooMany` when they are changed too often.
    pub async fn set(
        &self,
        instance: InstanceId,
        name: &str,
        schedule: Schedule,
        path: Option<String>,
    ) -> Result<Alarm> {
        if !rules::is_name(name) {
            let sentence = "An alarm's name has up to 64 letters, digits, hyphens, underscores and dots.";
            return Err(Error::invalid("name", sentence));
        }
        if let Some(path) = &path {
            mailbox::check_path(path).map_err(|sentence| Error::invalid("path", sentence))?;
        }
        let now = self.0.clock.now();
        let due = rules::first(&schedule, now).map_err(|(field, sentence)| Error::invalid(field, sentence))?;
        self.count_change(instance)?;
        let alarm = Alarm { name: name.to_owned(), schedule, path, set_at: now, due };
        let _one_at_a_time = self.0.changing.lock().await;
        let tx = self.0.db.begin().await?;
        if store::others(&tx, instance, name).await? >= MOST_ALARMS as u64 {
            let sentence = format!("{MOST_ALARMS} alarms are set, as many as may be. Delete one first.");
            return Err(Error::Conflict(sentence));
        }
        store::put(&tx, instance, &alarm).await?;
        tx.commit().await?;
        self.0.next_due_ms.fetch_min(due.0, Ordering::SeqCst);
        Ok(alarm)
    }

    /// An instance's alarms by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn of(&self, instance: InstanceId) -> Result<Vec<Alarm>> {
        store::of(&self.0.db, instance).await
    }

    /// How many alarms everybody has set.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count(&self) -> Result<u64> {
        store::count(&self.0.db).await
    }

    /// Deletes the alarm called `name`.
    ///
    /// # Errors
    /// `NotFound` when there is none; `TooMany` when they are changed too often.
    pub async fn delete(&self, instance: InstanceId, name: &str) -> Result<()> {
        self.count_change(instance)?;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, instance, name).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await
    }

    /// Rings whatever is due; how many. Looks at memory alone while nothing is, so it may be called every second.
    ///
    /// # Errors
    /// When the database does not answer: they ring when it does.
    pub async fn ring_due(&self) -> Result<u64> {
        if self.0.next_due_ms.load(Ordering::SeqCst) > self.0.clock.now().0 {
            return Ok(0);
        }
        // A tick that comes while another rings has nothing to add.
        let Ok(_one_at_a_time) = self.0.changing.try_lock() else { return Ok(0) };
        let mut rung = 0;
        for (instance, alarm) in store::due(&self.0.db, self.0.clock.now(), AT_ONCE).await? {
            rung += u64::from(self.ring(instance, &alarm).await?);
        }
        // Nobody sets one meanwhile, so none is overlooked.
        let next = store::next_due(&self.0.db).await?.unwrap_or(NEVER);
        self.0.next_due_ms.store(next.0, Ordering::SeqCst);
        Ok(rung)
    }

    /// Deletes every alarm of `instance` in the caller's transaction.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_in(&self, tx: &Tx, instance: InstanceId) -> Result<()> {
        store::forget(tx, instance).await
    }

    async fn ring(&self, instance: InstanceId, alarm: &Alarm) -> Result<bool> {
        let now = self.0.clock.now();
        let wish = self.0.instances.by_id(instance).map(|instance| instance.status().wish);
        let closed = wish.is_none_or(Wish::is_closed);
        let next = if closed {
            Some(rules::next_while_closed(&alarm.schedule, now))
        } else {
            rules::next(&alarm.schedule, now)
        };
        let tx = self.0.db.begin().await?;
        if !store::move_on(&tx, instance, alarm, next).await? || closed {
            tx.commit().await?;
            return Ok(false);
        }
        let rang = self.0.mailbox.ring_in(&tx, instance, &alarm.name, alarm.path.as_deref()).await?;
        tx.commit().await?;
        self.0.mailbox.rang(instance, rang);
        tracing::info!(instance.id = %instance, alarm = %alarm.name, "an alarm rang");
        Ok(true)
    }

    fn count_change(&self, instance: InstanceId) -> Result<()> {
        self.0.changes.check_key(&instance).map_err(|not| {
            let retry_after = not.wait_time_from(Ticks(self.0.clock.clone()).now()) + Duration::from_secs(1);
            let message = "Alarms are changed too often. Sixty changes a minute are taken.".to_owned();
            Error::TooMany { message, retry_after }
        })
    }
}

const NEVER: Timestamp = Timestamp(i64::MAX);
