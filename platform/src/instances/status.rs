//! The status of an instance, and its transitions.

use berth_ground::clock::Timestamp;
use serde::Serialize;

use super::rules::{Cause, Fact, STUCK_AFTER, WakeStage, Wish};
use super::work::LastWork;

/// A snapshot of an instance's status. Pages show it; held requests wait for a change of it on a watch channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    pub wish: Wish,
    pub fact: Fact,
    /// When the fact last changed.
    pub since: Timestamp,
    /// Why the fact last changed.
    pub cause: Cause,
    /// The last finished stage of the wake in progress.
    pub stage: WakeStage,
    /// The error message for the owner while the fact is [`Fact::Failed`].
    pub failure: Option<String>,
}

impl InstanceStatus {
    /// Whether the instance has been in a transient state for so long that an operator should investigate: see
    /// [`STUCK_AFTER`].
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.fact.is_transient() && now.since(self.since) >= STUCK_AFTER
    }
}

/// A state transition: a change of fact with its one cause, as the history shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Transition {
    pub at: Timestamp,
    pub from: Fact,
    pub to: Fact,
    pub cause: Cause,
    /// The last work in flight before the instance left the awake state; `None` for every other transition.
    pub last: Option<LastWork>,
}
