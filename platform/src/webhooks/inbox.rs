//! The in-memory state of inboxes: open paths, size counters, and when each instance's deliveries are due.

use std::collections::HashMap;

use berth_ground::clock::Timestamp;
use serde::Serialize;

use super::delivery::DeliveryState;
use super::rules::{MAX_DELIVERIES, MAX_INBOX_BYTES, MAX_TOTAL_BYTES};
use super::store::InboxSummary;
use crate::db::InstanceId;

/// A path of an instance that its owner opened for webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookPath {
    pub path: String,
    pub opened_at: Timestamp,
}

/// The deliveries that an inbox holds, and their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InboxCounts {
    pub waiting: u64,
    pub dead_letters: u64,
    pub bytes: u64,
}

/// The inboxes of all instances.
#[derive(Default)]
pub(super) struct Inboxes {
    inboxes: HashMap<InstanceId, Inbox>,
    /// The total size of all inboxes, in bytes.
    bytes: u64,
}

/// One instance's inbox.
pub(super) struct Inbox {
    pub paths: Vec<WebhookPath>,
    pub counts: InboxCounts,
    /// When the dispatcher has to look at its deliveries next.
    pub due_at: Option<Timestamp>,
    /// When deliveries last woke the instance; the Unix epoch if never.
    pub last_wake_at: Timestamp,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { paths: Vec::new(), counts: InboxCounts::default(), due_at: None, last_wake_at: Timestamp(0) }
    }
}

impl Inboxes {
    pub(super) fn inbox(&mut self, instance: InstanceId) -> &mut Inbox {
        self.inboxes.entry(instance).or_default()
    }

    /// Reads without creating an inbox: strangers may probe any instance, and the map must not grow with them.
    pub(super) fn look<T: Default>(&self, instance: InstanceId, look: impl FnOnce(&Inbox) -> T) -> T {
        self.inboxes.get(&instance).map_or_else(T::default, look)
    }

    /// Adds the rows of one instance and state, at process start.
    pub(super) fn load(&mut self, summary: &InboxSummary) {
        // Delivered rows have no body left and count towards no limit.
        if summary.state == DeliveryState::Delivered {
            return;
        }
        self.bytes += summary.bytes;
        let inbox = self.inbox(summary.instance);
        inbox.counts.bytes += summary.bytes;
        match summary.state {
            DeliveryState::Waiting => {
                inbox.counts.waiting = summary.deliveries;
                inbox.due_at = Some(summary.next_attempt_at);
            }
            DeliveryState::DeadLetter => inbox.counts.dead_letters = summary.deliveries,
            DeliveryState::Delivered => {}
        }
    }

    /// Reserves space for a delivery. The error says which limit is reached.
    pub(super) fn reserve(&mut self, instance: InstanceId, bytes: u64) -> Result<(), &'static str> {
        // Both limits are checked before either counter changes: a refusal must leave nothing reserved.
        if self.bytes + bytes > MAX_TOTAL_BYTES {
            return Err("This server's space for webhooks is full. Please try again later.");
        }
        let counts = &mut self.inbox(instance).counts;
        if counts.waiting + counts.dead_letters >= MAX_DELIVERIES || counts.bytes + bytes > MAX_INBOX_BYTES {
            return Err(
                "The inbox of this instance is full. Its owner can see why on the dashboard; please try again later.",
            );
        }
        counts.waiting += 1;
        counts.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases the space of a delivery that was in `state`.
    pub(super) fn release(&mut self, instance: InstanceId, state: DeliveryState, bytes: u64) {
        // Saturating: an alarm's delivery was never reserved, but its path has a few bytes.
        self.bytes = self.bytes.saturating_sub(bytes);
        let counts = &mut self.inbox(instance).counts;
        counts.bytes = counts.bytes.saturating_sub(bytes);
        match state {
            DeliveryState::Waiting => counts.waiting = counts.waiting.saturating_sub(1),
            DeliveryState::DeadLetter => counts.dead_letters = counts.dead_letters.saturating_sub(1),
            DeliveryState::Delivered => {}
        }
    }

    /// Moves one delivery from the waiting count to the dead letters.
    pub(super) fn give_up(&mut self, instance: InstanceId) {
        let counts = &mut self.inbox(instance).counts;
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.dead_letters += 1;
    }

    /// Moves one dead letter back to the waiting count.
    pub(super) fn revive(&mut self, instance: InstanceId) {
        let counts = &mut self.inbox(instance).counts;
        counts.dead_letters = counts.dead_letters.saturating_sub(1);
        counts.waiting += 1;
    }

    /// Makes the instance due at `at`, unless it is due sooner.
    pub(super) fn schedule(&mut self, instance: InstanceId, at: Timestamp) {
        let due_at = &mut self.inbox(instance).due_at;
        *due_at = Some(due_at.map_or(at, |before| before.min(at)));
    }

    /// Takes the instances that are due, each once.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<InstanceId> {
        let due = self.inboxes.iter_mut().filter(|(_, inbox)| inbox.due_at.is_some_and(|at| at <= now));
        due.map(|(instance, inbox)| {
            // Cleared: no poll returns it again until its run schedules it.
            inbox.due_at = None;
            *instance
        })
        .collect()
    }

    pub(super) fn total_counts(&self) -> InboxCounts {
        self.inboxes.values().fold(InboxCounts::default(), |all, inbox| InboxCounts {
            waiting: all.waiting + inbox.counts.waiting,
            dead_letters: all.dead_letters + inbox.counts.dead_letters,
            bytes: all.bytes + inbox.counts.bytes,
        })
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        if let Some(inbox) = self.inboxes.remove(&instance) {
            self.bytes = self.bytes.saturating_sub(inbox.counts.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_inbox_has_a_limit_of_deliveries_and_bytes_and_all_inboxes_share_a_limit_of_bytes() {
        let mut inboxes = Inboxes::default();
        let instance = |n| InstanceId(Uuid::from_u128(n));
        for _ in 0..MAX_DELIVERIES {
            inboxes.reserve(instance(1), 1).unwrap();
        }
        assert!(inboxes.reserve(instance(1), 1).is_err());
        inboxes.give_up(instance(1));
        assert!(inboxes.reserve(instance(1), 1).is_err(), "a dead letter still takes space");
        inboxes.release(instance(1), DeliveryState::DeadLetter, 1);
        inboxes.reserve(instance(1), 1).unwrap();
        inboxes.reserve(instance(2), MAX_INBOX_BYTES).unwrap();
        assert!(inboxes.reserve(instance(2), 1).is_err());
        let fit = (3..1000).filter(|n| inboxes.reserve(instance(*n), MAX_INBOX_BYTES).is_ok()).count() as u64;
        assert_eq!(fit, MAX_TOTAL_BYTES / MAX_INBOX_BYTES - 2);
        inboxes.forget(instance(2));
        inboxes.reserve(instance(2000), MAX_INBOX_BYTES).unwrap();
    }
}
