//! Delivery attempts of webhooks: selects the due deliveries of an instance in order, and records the outcome of each
//! attempt.

use std::collections::HashSet;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;

use super::rules::{self, AttemptOutcome, DELIVERED_RETENTION, MAX_DELIVERED, MAX_DELIVERIES, RetryDecision};
use super::{DeliveryAttempt, DeliveryId, DeliveryState, Webhooks, store};
use crate::db::InstanceId;

/// The deliveries of an instance that are due.
#[derive(Debug, Default)]
pub struct DueDeliveries {
    /// Ids and paths in the order of arrival. Once a delivery is refused, the later ones of its path wait.
    pub deliveries: Vec<(DeliveryId, String)>,
    /// Whether one of them is an alarm's first attempt: the instance's own program asked to be woken.
    pub has_new_alarm: bool,
    /// When the next delivery becomes due that is not among them.
    pub next: Option<Timestamp>,
}

impl Webhooks {
    /// Takes the instances with a due delivery. Each is returned once: the caller handles it or schedules it again.
    #[must_use]
    pub fn take_due(&self) -> Vec<InstanceId> {
        let now = self.0.clock.now();
        self.inboxes().take_due(now)
    }

    /// Makes [`Webhooks::take_due`] return the instance at `at`, unless it is scheduled sooner.
    pub fn schedule(&self, instance: InstanceId, at: Timestamp) {
        self.inboxes().schedule(instance, at);
        // The dispatcher's poll finds later times. `notify_one` stores a permit, so no wake-up is lost while it is
        // busy.
        if at <= self.0.clock.now() {
            self.0.due.notify_one();
        }
    }

    /// Waits until a delivery is enqueued or made due.
    pub async fn until_due(&self) {
        self.0.due.notified().await;
    }

    /// The deliveries that are due, and when the next one will be.
    pub async fn due_deliveries(&self, instance: InstanceId) -> Result<DueDeliveries> {
        let now = self.0.clock.now();
        // More than the limit of an inbox: alarms are enqueued beyond it.
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
                // FIFO per path: a delivery in backoff blocks all later ones of its path, even if they are due.
                blocked.insert(delivery.path);
            }
        }
        Ok(due)
    }

    /// Counts a wake for deliveries against the instance's rate limit.
    ///
    /// # Errors
    /// The time at which the next wake is allowed.
    pub fn check_wake_rate(&self, instance: InstanceId) -> std::result::Result<(), Timestamp> {
        self.0.limits.check_wake(instance).map_err(|wait| self.0.clock.now().plus(wait))
    }

    /// Records that deliveries woke the instance just now.
    pub fn record_wake(&self, instance: InstanceId) {
        let now = self.0.clock.now();
        self.inboxes().inbox(instance).last_wake_at = now;
    }

    /// When deliveries last woke the instance; the Unix epoch if never.
    #[must_use]
    pub fn last_wake_at(&self, instance: InstanceId) -> Timestamp {
        Timestamp(self.inboxes().look(instance, |inbox| inbox.last_wake_at.0))
    }

    /// Begins an attempt and returns the delivery with its body; `None` when the delivery is no longer waiting.
    pub async fn begin_attempt(&self, id: DeliveryId) -> Result<Option<DeliveryAttempt>> {
        // At least once: the attempt is committed before the request is sent. After a crash in between, the next
        // attempt has the number 2, which tells the receiver that it may have seen this delivery before.
        let tx = self.0.db.begin().await?;
        let Some(attempt) = store::begin_attempt(&tx, id).await? else { return Ok(None) };
        tx.commit().await?;
        Ok(Some(attempt))
    }

    /// Records the outcome of an attempt. Returns when the delivery is retried; `None` if it is not.
    ///
    /// # Errors
    /// When the database fails: the delivery then keeps waiting and is attempted once more.
    pub async fn end_attempt(&self, attempt: &DeliveryAttempt, outcome: &AttemptOutcome) -> Result<Option<Timestamp>> {
        let now = self.0.clock.now();
        let decision = rules::decide_retry(outcome, attempt.number, now, attempt.give_up_at);
        let (instance, id) = (attempt.delivery.instance, attempt.delivery.id);
        let tx = self.0.db.begin().await?;
        let finished = store::end_attempt(&tx, instance, id, decision, outcome.result(), now).await?;
        tx.commit().await?;
        // `None`: the owner discarded the delivery during the attempt, which already released its space.
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

    /// Deletes delivered entries past their retention.
    pub async fn prune_delivered(&self, instance: InstanceId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::prune_delivered(&tx, instance, self.0.clock.now().minus(DELIVERED_RETENTION), MAX_DELIVERED).await?;
        tx.commit().await
    }
}
