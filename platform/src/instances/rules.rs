//! What an instance should do next. Pure: no clock, no database, no containers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The desired state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Stopped, and no visit wakes it: its account leaves, and after a while its files are destroyed.
    Leaving,
    /// Without a container. The volume is kept: nothing but an explicit deletion takes files away.
    Removed,
}

/// What was last seen to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// A newer container takes the place of the one there, or that one the place of a newer that did not answer.
    Upgrading,
    Removing,
    /// The container is gone and no visit brings it back; the volume is kept.
    Removed,
    /// The last step failed; it is tried again with growing pauses.
    Failed,
}

/// Which part of a wake is done, for the page that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeStage {
    Asked,
    Volume,
    Container,
    Started,
    Ready,
}

/// Why something changed. One a transition, shown to owner and operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    SignUp,
    /// The owner's browser or program came to the instance.
    Visit,
    OwnerAsked,
    OperatorAsked,
    Idle,
    /// The instance had asked to be woken at this time.
    Alarm,
    /// A webhook waited for it.
    Webhook,
    /// The host ran short of memory, and it was used longest ago.
    Pressure,
    /// A newer image or other limits.
    Upgrade,
    /// The platform started and found it so, or the container engine changed it by itself.
    FoundSo,
    /// The last step failed.
    Failure,
}

/// After how long without work an instance sleeps, and how deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepPolicy {
    pub freeze_after: Duration,
    pub stop_after: Duration,
    /// The container is removed and the volume kept.
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
    /// There, but not the one the ledger knows: its token is another, and it can do nothing for its owner.
    Outdated {
        stopped: bool,
    },
    Stopped,
    Frozen,
    /// Running; `ready` once it answered since it was started.
    Running {
        ready: bool,
    },
}

/// Whether the container is the one that would be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRenewal {
    Current,
    /// Its image was rebuilt or its limits changed: a new one takes its place before it is next started.
    AtNextStart,
    /// The same, and the renewal was requested: the container is replaced as soon as no work is in flight.
    Now,
    /// It is the new one and did not become ready: the one before takes its place again.
    GoBack,
}

/// Whether anybody uses the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Something holds it awake: see [`Work`](super::Work).
    Working,
    /// Nothing moved for this long.
    Idle(Duration),
}

/// The one next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    MakeVolume,
    MakeContainer,
    /// A new container in the place of the stopped one.
    Upgrade,
    /// The container before the upgrade again.
    GoBack,
    Start,
    AwaitReady,
    Freeze,
    Thaw,
    Stop,
    RemoveContainer,
    /// All is as it should be; look again after this long, or when something happens.
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
/// ready, the previous one is restored (GoBack). An instance unused for longer than `remove_after` loses its container
/// and keeps its volume.
#[must_use]
pub fn decide(wish: Wish, reality: ObservedState, activity: Activity, policy: SleepPolicy) -> NextStep {
    let must_renew = reality.renewal == ContainerRenewal::Now;
    match (wish, tier(wish, activity, policy), reality.container) {
        (Wish::Removed, _, ContainerPhase::None) => NextStep::Rest(None),
        (Wish::Removed, ..) => NextStep::RemoveContainer,

        // Memory does not outlive its container, so what must be renewed has nothing to be thawed or frozen for. Only
        // work in flight is waited for.
        (_, SleepDepth::Awake | SleepDepth::Frozen, ContainerPhase::Frozen) if must_renew => NextStep::Stop,
        (_, SleepDepth::Awake | SleepDepth::Frozen, ContainerPhase::Running { ready: true })
            if must_renew && activity != Activity::Working =>
        {
            NextStep::Stop
        }
        (_, SleepDepth::Awake, ContainerPhase::Stopped | ContainerPhase::Running { ready: false })
            if reality.renewal == ContainerRenewal::GoBack =>
        {
            NextStep::GoBack
        }
        (_, SleepDepth::Awake, ContainerPhase::Stopped) if reality.renewal != ContainerRenewal::Current => {
            NextStep::Upgrade
        }

        (_, SleepDepth::Awake, ContainerPhase::None) if !reality.volume => NextStep::MakeVolume,
        (_, SleepDepth::Awake, ContainerPhase::None | ContainerPhase::Outdated { .. }) => NextStep::MakeContainer,
        (_, SleepDepth::Awake, ContainerPhase::Stopped) => NextStep::Start,
        (_, SleepDepth::Awake, ContainerPhase::Frozen) => NextStep::Thaw,
        (_, SleepDepth::Awake, ContainerPhase::Running { ready: false }) => NextStep::AwaitReady,
        (_, SleepDepth::Awake, ContainerPhase::Running { ready: true }) => {
            NextStep::Rest(until(policy.freeze_after, activity))
        }

        (_, SleepDepth::Frozen, ContainerPhase::Running { ready: true }) => NextStep::Freeze,
        // Frozen means ready in milliseconds: what never answered starts afresh at the next wake instead.
        (_, SleepDepth::Frozen, ContainerPhase::Running { ready: false }) => NextStep::Stop,
        (_, SleepDepth::Frozen, ContainerPhase::Frozen) => NextStep::Rest(until(policy.stop_after, activity)),

        (_, SleepDepth::Stopped | SleepDepth::Absent, ContainerPhase::Running { .. } | ContainerPhase::Frozen) => {
            NextStep::Stop
        }
        (_, SleepDepth::Absent, ContainerPhase::Stopped) => NextStep::RemoveContainer,

        // The outdated container is idle, so it stops; the next wake replaces it with a current one, and restores the
        // previous one if the replacement does not become ready.
        (
            _,
            SleepDepth::Frozen | SleepDepth::Stopped | SleepDepth::Absent,
            ContainerPhase::Outdated { stopped: false },
        ) => NextStep::Stop,
        (_, SleepDepth::Absent, ContainerPhase::Outdated { stopped: true }) => NextStep::RemoveContainer,
        // Nothing is started just to be put to sleep.
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
    /// Stopped, and its container given up.
    Absent,
}

fn tier(wish: Wish, activity: Activity, policy: SleepPolicy) -> SleepDepth {
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

/// How much sooner than usual an instance sleeps, because the host needs its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPressure {
    Freeze,
    Stop,
}

impl SleepPolicy {
    /// This policy for one that is under_pressure: it sleeps as soon as nothing is in flight.
    #[must_use]
    pub fn under_pressure(self, pressure: Option<MemoryPressure>) -> Self {
        match pressure {
            None => self,
            Some(MemoryPressure::Freeze) => Self { freeze_after: Duration::ZERO, ..self },
            Some(MemoryPressure::Stop) => Self { freeze_after: Duration::ZERO, stop_after: Duration::ZERO, ..self },
        }
    }
}

/// How long a change under way may take before it is shown as stuck, with what frees it. Longer than any step with its
/// own deadlines and a retry or two.
pub const STUCK_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long to wait after the `failures`th failure in a row: 1 s, doubling, at most a minute.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

impl Wish {
    /// Whether no visit, webhook or alarm wakes it, whatever it is doing still: its owner cannot wish it awake either.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Suspended | Self::Leaving | Self::Removed)
    }

    /// The one word for it, in database, JSON, metrics, logs and the operator's commands.
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
    /// Whether it is on its way to another, and therefore may not last.
    #[must_use]
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::Absent | Self::Awake | Self::Frozen | Self::Stopped | Self::Removed)
    }

    /// The one word for it: see [`Wish::as_str`].
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
    /// The one word for it: see [`Wish::as_str`].
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
