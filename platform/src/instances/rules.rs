//! The reconciler's decision as a pure function: from desired state, observed state, activity and sleep policy to the
//! next step. No clock, no database, no containers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The desired state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Awake while in use, asleep when idle. The wish of a healthy instance.
    Available,
    /// Frozen now, awake again within milliseconds; the next visit sets the wish to available.
    Frozen,
    /// Stopped now, its memory freed; the next visit sets the wish to available.
    Stopped,
    /// Stopped, and no visit wakes it: the operator suspended its account.
    Suspended,
    /// Stopped, and no visit wakes it: its account is being deleted, and its files are destroyed after the grace
    /// period.
    Leaving,
    /// No container, and no visit creates one. The volume is kept: only an explicit deletion destroys files.
    Removed,
}

/// The observed state of an instance, as last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// No container exists. The volume may exist.
    Absent,
    /// Volume or container are being created.
    Provisioning,
    /// Running and ready.
    Awake,
    Freezing,
    /// Paused (cgroup freezer); its memory is swapped out where the host has swap.
    Frozen,
    Thawing,
    Stopping,
    /// A container exists and does not run.
    Stopped,
    /// Started, not ready yet.
    Waking,
    /// The container is being replaced by a newer one, or by the previous one (rollback).
    Upgrading,
    Removing,
    /// The container is gone and no visit brings it back; the volume is kept.
    Removed,
    /// The last step failed; it is retried with exponential backoff.
    Failed,
}

/// The last finished stage of a wake, for the page that shows its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeStage {
    Asked,
    Volume,
    Container,
    Started,
    Ready,
}

/// The cause of a transition. Each transition has exactly one, shown to owner and operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    SignUp,
    /// A request to one of the instance's hostnames that may wake it.
    Visit,
    /// The owner used a form or the API.
    OwnerAsked,
    /// The operator used a command or the admin page.
    OperatorAsked,
    /// An idle timeout expired.
    Idle,
    /// An alarm that the instance had set was due.
    Alarm,
    /// A webhook delivery waited for the instance.
    Webhook,
    /// Eviction: the host ran short of memory, and the instance was the least recently used.
    Pressure,
    /// The container was replaced because its image or limits changed.
    Upgrade,
    /// No step of the platform caused it: the state was found at startup, or changed outside the platform.
    FoundSo,
    /// The last step failed.
    Failure,
}

/// The idle timeouts: after how long without activity an instance is frozen, then stopped, then removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepPolicy {
    pub freeze_after: Duration,
    pub stop_after: Duration,
    /// After this the container is removed; the volume is kept.
    pub remove_after: Duration,
}

/// The observed state, reduced to the parts that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedState {
    pub volume: bool,
    pub container: ContainerPhase,
    pub renewal: ContainerRenewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerPhase {
    None,
    /// The container's token is not the one in the database, so it cannot authenticate for its owner and must be
    /// replaced.
    Outdated {
        stopped: bool,
    },
    Stopped,
    Frozen,
    /// Running; `ready` once a readiness probe succeeded since the start.
    Running {
        ready: bool,
    },
}

/// Whether the container is current, which means identical to one that would be created now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRenewal {
    Current,
    /// Its image was rebuilt or its limits changed: it is replaced before its next start.
    AtNextStart,
    /// Not current, and an upgrade was requested: it is replaced as soon as no work is in flight.
    Now,
    /// It is the container of an upgrade and did not become ready: the previous one is restored (rollback).
    RollBack,
}

/// Whether the instance is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Work is in flight: see [`Work`](super::Work).
    Working,
    /// No activity for this long.
    Idle(Duration),
}

/// The next step of the reconciler for one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    MakeVolume,
    MakeContainer,
    /// Replace the stopped container by a current one.
    Upgrade,
    /// Restore the container before the upgrade (rollback).
    RollBack,
    Start,
    AwaitReady,
    Freeze,
    Thaw,
    Stop,
    RemoveContainer,
    /// Nothing to do; reconcile again after this long, or on the next event.
    Rest(Option<Duration>),
}

/// Decides the next step. Every step brings the instance nearer to its desired state, so a few of them always end in
/// [`NextStep::Rest`]:
///
/// ```text
///            MakeVolume  MakeContainer   Start     AwaitReady
///   nothing ---------> volume ------> stopped ----> running ----> awake
///                                        ^             |          | ^
///                                        |    Stop     |   Freeze v | Thaw
///                                        +-------------+        frozen
///                                        +---------Stop-----------+
/// ```
///
/// A stopped container that is not current is replaced before it starts (Upgrade); if the new one does not become
/// ready, the previous one is restored (RollBack). An instance unused for longer than `remove_after` loses its
/// container and keeps its volume.
#[must_use]
pub fn decide(wish: Wish, observed: ObservedState, activity: Activity, policy: SleepPolicy) -> NextStep {
    let must_renew = observed.renewal == ContainerRenewal::Now;
    match (wish, sleep_depth(wish, activity, policy), observed.container) {
        (Wish::Removed, _, ContainerPhase::None) => NextStep::Rest(None),
        (Wish::Removed, ..) => NextStep::RemoveContainer,

        // An upgrade discards the container's memory, so thawing or freezing it first would be wasted. Only work in
        // flight is waited for.
        (_, SleepDepth::Awake | SleepDepth::Frozen, ContainerPhase::Frozen) if must_renew => NextStep::Stop,
        (_, SleepDepth::Awake | SleepDepth::Frozen, ContainerPhase::Running { ready: true })
            if must_renew && activity != Activity::Working =>
        {
            NextStep::Stop
        }
        (_, SleepDepth::Awake, ContainerPhase::Stopped | ContainerPhase::Running { ready: false })
            if observed.renewal == ContainerRenewal::RollBack =>
        {
            NextStep::RollBack
        }
        (_, SleepDepth::Awake, ContainerPhase::Stopped) if observed.renewal != ContainerRenewal::Current => {
            NextStep::Upgrade
        }

        (_, SleepDepth::Awake, ContainerPhase::None) if !observed.volume => NextStep::MakeVolume,
        (_, SleepDepth::Awake, ContainerPhase::None | ContainerPhase::Outdated { .. }) => NextStep::MakeContainer,
        (_, SleepDepth::Awake, ContainerPhase::Stopped) => NextStep::Start,
        (_, SleepDepth::Awake, ContainerPhase::Frozen) => NextStep::Thaw,
        (_, SleepDepth::Awake, ContainerPhase::Running { ready: false }) => NextStep::AwaitReady,
        (_, SleepDepth::Awake, ContainerPhase::Running { ready: true }) => {
            NextStep::Rest(until(policy.freeze_after, activity))
        }

        (_, SleepDepth::Frozen, ContainerPhase::Running { ready: true }) => NextStep::Freeze,
        // A frozen instance must be ready within milliseconds, so a container that never became ready is stopped
        // instead.
        (_, SleepDepth::Frozen, ContainerPhase::Running { ready: false }) => NextStep::Stop,
        (_, SleepDepth::Frozen, ContainerPhase::Frozen) => NextStep::Rest(until(policy.stop_after, activity)),

        (_, SleepDepth::Stopped | SleepDepth::Absent, ContainerPhase::Running { .. } | ContainerPhase::Frozen) => {
            NextStep::Stop
        }
        (_, SleepDepth::Absent, ContainerPhase::Stopped) => NextStep::RemoveContainer,

        // The outdated container is idle, so it stops; the next wake replaces it.
        (
            _,
            SleepDepth::Frozen | SleepDepth::Stopped | SleepDepth::Absent,
            ContainerPhase::Outdated { stopped: false },
        ) => NextStep::Stop,
        (_, SleepDepth::Absent, ContainerPhase::Outdated { stopped: true }) => NextStep::RemoveContainer,
        // A stopped container is not started only to be frozen.
        (
            _,
            SleepDepth::Frozen | SleepDepth::Stopped,
            ContainerPhase::Stopped | ContainerPhase::Outdated { stopped: true },
        ) => NextStep::Rest(until(policy.remove_after, activity)),
        (_, SleepDepth::Frozen | SleepDepth::Stopped | SleepDepth::Absent, ContainerPhase::None) => {
            NextStep::Rest(None)
        }
    }
}

#[derive(Clone, Copy)]
enum SleepDepth {
    Awake,
    Frozen,
    Stopped,
    /// Stopped, and the container removed.
    Absent,
}

fn sleep_depth(wish: Wish, activity: Activity, policy: SleepPolicy) -> SleepDepth {
    // The order of the arms matters: the longest idle timeout comes first, and an explicit wish to stop overrides work
    // in flight.
    match (wish, activity) {
        (_, Activity::Idle(idle)) if idle >= policy.remove_after => SleepDepth::Absent,
        (Wish::Stopped | Wish::Suspended | Wish::Leaving | Wish::Removed, _) => SleepDepth::Stopped,
        (Wish::Available, Activity::Working) => SleepDepth::Awake,
        (Wish::Frozen, Activity::Working) => SleepDepth::Frozen,
        (Wish::Available | Wish::Frozen, Activity::Idle(idle)) if idle >= policy.stop_after => SleepDepth::Stopped,
        (Wish::Available, Activity::Idle(idle)) if idle < policy.freeze_after => SleepDepth::Awake,
        (Wish::Available | Wish::Frozen, Activity::Idle(_)) => SleepDepth::Frozen,
    }
}

fn until(limit: Duration, activity: Activity) -> Option<Duration> {
    match activity {
        Activity::Working => None,
        Activity::Idle(idle) => Some(limit.saturating_sub(idle)),
    }
}

/// How deeply an idle instance must sleep at once, because the host runs short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPressure {
    Freeze,
    Stop,
}

impl SleepPolicy {
    /// This policy under memory pressure: the idle timeouts are zero, so the instance sleeps as soon as no work is in
    /// flight.
    #[must_use]
    pub fn under_pressure(self, pressure: Option<MemoryPressure>) -> Self {
        match pressure {
            None => self,
            Some(MemoryPressure::Freeze) => Self { freeze_after: Duration::ZERO, ..self },
            Some(MemoryPressure::Stop) => Self { freeze_after: Duration::ZERO, stop_after: Duration::ZERO, ..self },
        }
    }
}

/// How long a transient state may last before the instance is shown as stuck, with a remedy. Longer than the timeouts
/// of any step with a retry or two.
pub const STUCK_AFTER: Duration = Duration::from_secs(5 * 60);

/// The backoff after `failures` consecutive failures: exponential from 1 s, at most one minute, without jitter.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

impl Wish {
    /// Whether no visit, webhook or alarm may wake the instance, even while it still runs. Its owner cannot change such
    /// a wish either.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Suspended | Self::Leaving | Self::Removed)
    }

    /// The wish's identifier in database, JSON, metrics, logs and the operator's commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Frozen => "frozen",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Leaving => "leaving",
            Self::Removed => "removed",
        }
    }
}

impl Fact {
    /// Whether the state is transient: a step is in progress, or a failed one is being retried.
    #[must_use]
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::Absent | Self::Awake | Self::Frozen | Self::Stopped | Self::Removed)
    }

    /// The fact's identifier: see [`Wish::as_str`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Provisioning => "provisioning",
            Self::Awake => "awake",
            Self::Freezing => "freezing",
            Self::Frozen => "frozen",
            Self::Thawing => "thawing",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Waking => "waking",
            Self::Upgrading => "upgrading",
            Self::Removing => "removing",
            Self::Removed => "removed",
            Self::Failed => "failed",
        }
    }
}

impl Cause {
    /// The cause's identifier: see [`Wish::as_str`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Visit => "visit",
            Self::OwnerAsked => "owner_asked",
            Self::OperatorAsked => "operator_asked",
            Self::Idle => "idle",
            Self::Alarm => "alarm",
            Self::Webhook => "webhook",
            Self::Pressure => "pressure",
            Self::Upgrade => "upgrade",
            Self::FoundSo => "found_so",
            Self::Failure => "failure",
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
