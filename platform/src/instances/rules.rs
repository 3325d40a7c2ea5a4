//! What an instance should do next. Pure: no clock, no database, no containers.

use std::time::Duration;

use serde::Serialize;

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Awake while in use, asleep when idle. The state of a healthy instance.
    Available,
    /// Asleep now, ready in milliseconds; the next visit makes it available again.
    Frozen,
    /// Asleep now, its memory given up; the next visit makes it available again.
    Stopped,
    /// Stopped, and no visit wakes it: the operator suspended its account.
    Suspended,
    /// Gone: container and volume both.
    Removed,
}

/// What was last seen to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// There is no container. The volume may be there.
    Absent,
    /// A container is being made for the first time, or anew.
    Provisioning,
    /// Running and answering.
    Awake,
    Freezing,
    /// Paused, its memory handed back where the host has swap.
    Frozen,
    Thawing,
    Stopping,
    /// There is a container and it does not run.
    Stopped,
    /// Started, not answering yet.
    Waking,
    Removing,
    /// Container and volume are gone.
    Removed,
    /// The last step failed; it is tried again with growing pauses.
    Failed,
}

/// Which part of a wake is done, for the page that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Asked,
    Volume,
    Container,
    Started,
    Ready,
}

/// Why something changed. One a transition, shown to owner and operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    SignUp,
    /// The owner's browser or program came to the instance.
    Visit,
    OwnerAsked,
    OperatorAsked,
    Idle,
    /// The platform started and found it so, or the container engine changed it by itself.
    FoundSo,
    /// The last step failed.
    Failure,
}

/// After how long without work an instance sleeps, and how deeply.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub freeze_after: Duration,
    pub stop_after: Duration,
}
