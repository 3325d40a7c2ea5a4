//! Delivery attempts: which deliveries of an instance are due, in which order, and recording the outcome of each
//! attempt.

use std::collections::HashSet;

use super::rules::{self, AttemptOutcome, DELIVERED_RETENTION, MAX_DELIVERED, MAX_DELIVERIES, RetryDecision};
use super::{DeliveryAttempt, DeliveryId, DeliveryState, Webhooks, store};
use crate::clock::Timestamp;
use crate::db::InstanceId;
use crate::error::Result;

/// The deliveries of an instance to attempt now.
#[derive(Debug, Default)]
pub struct DueDeliveries {
    /// In the order of arrival, with their paths: once one is refused, those behind it on its path wait.
    pub deliveries: Vec<(DeliveryId, String)>,
    /// Whether one of them is an alarm's first attempt, so that the instance's own program asked to be woken.
    pub has_new_alarm: bool,
    /// When the next delivery is due that is not among them.
    pub next: Option<Timestamp>,
}

impl Webhooks {
    /// Instances with a delivery that is due. Each is named once: the caller attends to it or schedules it again.
    #[must_use]
    pub fn take_due(&self) -> Vec<InstanceId> {
        let now = self.0.clock.now();
        self.inboxes().take_due(now)
    }

    /// Has [`Webhooks::take_due`] name the instance at `at`, unless it is to name it sooner.
    pub fn schedule(&self, instance: InstanceId, at: Timestamp) {
        self.inboxes().schedule(instance, at);
        // Later times are found by the dispatcher's own polling; a permit of `notify_one` is kept while it is busy.
        if at <= self.0.clock.now() {
            self.0.due.notify_one();
        }
    }

    /// Waits until a delivery is enqueued or made due.
    pub async fn until_due(&self) {
        self.0.due.notified().await;
    }

    /// The deliveries to attempt now, and when the next one is due.
    pub async fn due_deliveries(&self, instance: InstanceId) -> Result<DueDeliveries> {
        let now = self.0.clock.now();
        // More than an inbox holds from outside: alarms are enqueued beyond that limit.
        let waiting = store::waiting(&self.0.db, instance, MAX_DELIVERIES + 100).await?;
        let mut due = DueDeliveries::default();
        let mut blocked = HashSet::new();
        for delivery in waiting {
            if blocked.contains(&delivery.path) {
                continue;
            }
            if delivery.next_attempt_at <= now {
                due.has_new_alarm |= delivery.is_alarm && delivery.attempts == 0;
                due.deliveries.push((delivery.id, delivery.path));
            } else {
                let at = delivery.next_attempt_at;
                due.next = Some(due.next.map_or(at, |next| next.min(at)));
                // Order per path: one that backs off holds back every later one of its path, though those are due.
                blocked.insert(delivery.path);
            }
        }
        Ok(due)
    }

    /// Counts a wake for deliveries against the instance's rate limit.
    ///
    /// # Errors
    /// When the next wake is allowed.
    pub fn check_wake_rate(&self, instance: InstanceId) -> std::result::Result<(), Timestamp> {
        self.0.limits.check_wake(instance).map_err(|wait| self.0.clock.now().plus(wait))
    }

    /// Records that deliveries woke the instance just now.
    pub fn record_wake(&self, instance: InstanceId) {
        let now = self.0.clock.now();
        self.inboxes().inbox(instance).last_wake_at = now;
    }

    /// When deliveries last woke the instance; the beginning of time when they never did.
    #[must_use]
    pub fn last_wake_at(&self, instance: InstanceId) -> Timestamp {
        Timestamp(self.inboxes().look(instance, |inbox| inbox.last_wake_at.0))
    }

    /// Begins an attempt and returns the delivery with its body; `None` when it no longer waits.
    pub async fn begin_attempt(&self, id: DeliveryId) -> Result<Option<DeliveryAttempt>> {
        // The attempt is committed before the request is sent: after a crash in between, the next one carries the
        // number 2, and the receiver can tell that it may have seen this delivery before.
        let tx = self.0.db.begin().await?;
        let Some(attempt) = store::begin_attempt(&tx, id).await? else { return Ok(None) };
        tx.commit().await?;
        Ok(Some(attempt))
    }

    /// Records the outcome of an attempt; returns when the delivery is retried, if it is.
    ///
    /// # Errors
    /// When the database fails: the delivery then waits as before and is attempted once more.
    pub async fn end_attempt(&self, attempt: &DeliveryAttempt, outcome: &AttemptOutcome) -> Result<Option<Timestamp>> {
        let now = self.0.clock.now();
        let decision = rules::decide_retry(outcome, attempt.number, now, attempt.give_up_at);
        let (instance, id) = (attempt.delivery.instance, attempt.delivery.id);
        let tx = self.0.db.begin().await?;
        let finished = store::end_attempt(&tx, instance, id, decision, outcome.result(), now).await?;
        tx.commit().await?;
        // `None`: its owner discarded it during the attempt, and its space was released then.
        if let Some(bytes) = finished {
            match decision {
                RetryDecision::Delivered => self.inboxes().release(instance, DeliveryState::Waiting, bytes),
                RetryDecision::DeadLetter => self.inboxes().give_up(instance),
                RetryDecision::RetryAt(_) => {}
            }
        }
        Ok(match decision {
            RetryDecision::RetryAt(at) => Some(at),
            RetryDecision::Delivered | RetryDecision::DeadLetter => None,
        })
    }

    /// Deletes delivered ones past their retention.
    pub async fn prune_delivered(&self, instance: InstanceId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::prune_delivered(&tx, instance, self.0.clock.now().minus(DELIVERED_RETENTION), MAX_DELIVERED).await?;
        tx.commit().await
    }
}
