//! Alarms: timers that a program sets to wake its own instance, once or by cron, with an optional webhook delivery to
//! one of its paths.
//!
//! Ringing enqueues a webhook delivery and advances the alarm to its next time, in one transaction (transactional
//! outbox). From then on the delivery wakes the instance and is retried until the instance was awake, so a crash loses
//! nothing. Times that were missed while the platform was down coalesce into one ring.

mod alarm;
mod registration;
mod rules;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub use alarm::Alarm;
pub use rules::{MAX_AHEAD, MAX_ALARMS, MAX_NAME_LENGTH, Schedule, moment};

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::{Error, Result};

use crate::db::{Db, InstanceId, Tx};
use crate::instances::{Instances, Wish};
use crate::rate_limit::{KeyedRateLimiter, RateLimit, too_many};
use crate::webhooks::{self, Webhooks};

/// Rate limit of changes to one instance's alarms: each change is a transaction that waits for the disk.
const CHANGES: RateLimit = RateLimit::per_minute(60);
/// Maximum number of alarms rung by one call of [`Alarms::ring_due`]; the rest ring in the next call.
const MAX_RINGS: u64 = 200;

/// The alarms of all instances. Cheap to clone.
#[derive(Clone)]
pub struct Alarms(Arc<AlarmsInner>);

struct AlarmsInner {
    db: Db,
    clock: Clock,
    instances: Instances,
    webhooks: Webhooks,
    /// No alarm is due before this, in milliseconds. The scheduler compares it every second instead of asking the
    /// database.
    next_due_ms: AtomicI64,
    changes: KeyedRateLimiter<InstanceId>,
    /// Serialises setting and ringing. On PostgreSQL two concurrent transactions could otherwise both count one alarm
    /// fewer than the limit; and a ring that ends while an alarm is being set could overwrite its `next_due_ms`.
    changing: tokio::sync::Mutex<()>,
}

impl Alarms {
    /// Opens the module: reads when the next alarm is due.
    pub async fn open(db: Db, clock: Clock, instances: Instances, webhooks: Webhooks) -> Result<Self> {
        store::log_unreadable(&db).await?;
        let next = store::next_due(&db).await?.unwrap_or(NEVER);
        let changes = KeyedRateLimiter::new(CHANGES, clock.clone());
        let changing = tokio::sync::Mutex::default();
        let next_due_ms = AtomicI64::new(next.0);
        Ok(Self(Arc::new(AlarmsInner { db, clock, instances, webhooks, next_due_ms, changes, changing })))
    }

    /// Sets the alarm called `name`; an existing alarm of that name is replaced.
    ///
    /// # Errors
    /// `Invalid` with the field; `Conflict` when [`MAX_ALARMS`] are set; `TooMany` above the rate limit.
    pub async fn set(
        &self,
        instance: InstanceId,
        name: &str,
        schedule: Schedule,
        path: Option<String>,
    ) -> Result<Alarm> {
        check(name, path.as_deref())?;
        let now = self.0.clock.now();
        let due = rules::first(&schedule, now).map_err(|(field, sentence)| Error::invalid(field, sentence))?;
        // Counted after the validation, which costs nothing: a program's mistakes do not use up its changes.
        self.count_change(instance)?;
        let alarm = Alarm { name: name.to_owned(), schedule, path, set_at: now, due };
        let _one_at_a_time = self.0.changing.lock().await;
        let tx = self.0.db.begin().await?;
        if store::others(&tx, instance, name).await? >= MAX_ALARMS as u64 {
            let sentence = format!("{MAX_ALARMS} alarms are set, as many as may be. Delete one first.");
            return Err(Error::Conflict(sentence));
        }
        store::put(&tx, instance, &alarm).await?;
        tx.commit().await?;
        // Only ever lowered here. An alarm that was replaced may leave it too low: that costs one query, which then
        // corrects it.
        self.0.next_due_ms.fetch_min(due.0, Ordering::SeqCst);
        Ok(alarm)
    }

    /// An instance's alarms, sorted by name.
    pub async fn of(&self, instance: InstanceId) -> Result<Vec<Alarm>> {
        store::of(&self.0.db, instance).await
    }

    /// How many alarms all instances have together.
    pub async fn count(&self) -> Result<u64> {
        store::count(&self.0.db).await
    }

    /// Deletes the alarm called `name`.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name; `TooMany` above the rate limit.
    pub async fn delete(&self, instance: InstanceId, name: &str) -> Result<()> {
        self.count_change(instance)?;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, instance, name).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await
    }

    /// Rings the due alarms, and returns how many rang. While none is due it only compares a number in memory.
    ///
    /// # Errors
    /// After a database error the alarms ring at a later tick.
    pub async fn ring_due(&self) -> Result<u64> {
        if self.0.next_due_ms.load(Ordering::SeqCst) > self.0.clock.now().0 {
            return Ok(0);
        }
        // While an alarm is being set, or the previous call still rings, this tick is skipped; the next one is a second
        // away.
        let Ok(_one_at_a_time) = self.0.changing.try_lock() else { return Ok(0) };
        let mut rung = 0;
        for (instance, alarm) in store::due(&self.0.db, self.0.clock.now(), MAX_RINGS).await? {
            rung += u64::from(self.ring(instance, &alarm).await?);
        }
        // The lock is held, so no alarm was set between the query and the store: none is missed.
        let next = store::next_due(&self.0.db).await?.unwrap_or(NEVER);
        self.0.next_due_ms.store(next.0, Ordering::SeqCst);
        Ok(rung)
    }

    /// Deletes every alarm of `instance` in the caller's transaction.
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
        // Advancing the alarm and enqueueing its delivery commit together: a crash leaves both or neither.
        if !store::advance(&tx, instance, alarm, next).await? || closed {
            tx.commit().await?;
            return Ok(false);
        }
        let delivery = self.0.webhooks.enqueue_alarm_in(&tx, instance, &alarm.name, alarm.path.as_deref()).await?;
        tx.commit().await?;
        self.0.webhooks.alarm_committed(instance, delivery);
        tracing::info!(instance.id = %instance, alarm = %alarm.name, "an alarm rang");
        Ok(true)
    }

    fn count_change(&self, instance: InstanceId) -> Result<()> {
        let sentence = "Alarms are changed too often. Sixty changes a minute are accepted.";
        self.0.changes.check(&instance).map_err(|wait| too_many(sentence, wait))
    }
}

fn check(name: &str, path: Option<&str>) -> Result<()> {
    if !rules::is_name(name) {
        let sentence = "An alarm's name has up to 64 letters, digits, hyphens, underscores and dots.";
        return Err(Error::invalid("name", sentence));
    }
    path.map_or(Ok(()), |path| webhooks::check_path(path).map_err(|sentence| Error::invalid("path", sentence)))
}

const NEVER: Timestamp = Timestamp(i64::MAX);
