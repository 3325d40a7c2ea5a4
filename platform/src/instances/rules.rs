//! What an instance should do next. Pure: no clock, no database, no containers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What somebody asked for.
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
    Removing,
    /// The container is gone and no visit brings it back; the volume is kept.
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
    /// Something arrived for it in its mailbox.
    Mail,
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
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub freeze_after: Duration,
    pub stop_after: Duration,
    /// The container is removed and the volume kept.
    pub remove_after: Duration,
}

/// What is really there, as far as a decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reality {
    pub volume: bool,
    pub container: Container,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    None,
    /// There, but not the one the ledger knows: its token or image is another.
    Outdated,
    Stopped,
    Frozen,
    /// Running; `ready` once it answered since it was started.
    Running {
        ready: bool,
    },
}

/// Whether anybody uses the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A request, stream or AI call is in flight.
    Working,
    /// Nothing happened for this long.
    Idle(Duration),
}

/// The one next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    MakeVolume,
    MakeContainer,
    Start,
    AwaitReady,
    Freeze,
    Thaw,
    Stop,
    RemoveContainer,
    /// All is as it should be; look again after this long, or when something happens.
    Rest(Option<Duration>),
}

/// Decides the next step. Every step brings the instance nearer to what is wished, so a few of them always end in
/// [`Step::Rest`]:
///
/// ```text
///            MakeVolume  MakeContainer   Start     AwaitReady
///   nothing ---------> volume ------> stopped ----> running ----> awake
///                                        ^             |          | ^
///                                        |    Stop     |   Freeze v | Thaw
///                                        +-------------+        frozen
///                                        +---------Stop-----------+
/// ```
#[must_use]
pub fn decide(wish: Wish, reality: Reality, activity: Activity, policy: Policy) -> Step {
    match (wish, tier(wish, activity, policy), reality.container) {
        (Wish::Removed, _, Container::None) => Step::Rest(None),
        (Wish::Removed, ..) => Step::RemoveContainer,

        (_, Tier::Awake, Container::None) if !reality.volume => Step::MakeVolume,
        (_, Tier::Awake, Container::None | Container::Outdated) => Step::MakeContainer,
        (_, Tier::Awake, Container::Stopped) => Step::Start,
        (_, Tier::Awake, Container::Frozen) => Step::Thaw,
        (_, Tier::Awake, Container::Running { ready: false }) => Step::AwaitReady,
        (_, Tier::Awake, Container::Running { ready: true }) => Step::Rest(until(policy.freeze_after, activity)),

        (_, Tier::Frozen, Container::Running { ready: true }) => Step::Freeze,
        // Frozen means ready in milliseconds: what never answered starts afresh at the next wake instead.
        (_, Tier::Frozen, Container::Running { ready: false }) => Step::Stop,
        (_, Tier::Frozen, Container::Frozen) => Step::Rest(until(policy.stop_after, activity)),

        (_, Tier::Stopped, Container::Running { .. } | Container::Frozen) => Step::Stop,

        // Whatever it is, nobody wants it now; the next wake makes the right one.
        (_, Tier::Frozen | Tier::Stopped, Container::Outdated) => Step::RemoveContainer,
        // Nothing is started just to be put to sleep.
        (_, Tier::Frozen | Tier::Stopped, Container::None | Container::Stopped) => Step::Rest(None),
    }
}

#[derive(Clone, Copy)]
enum Tier {
    Awake,
    Frozen,
    Stopped,
}

fn tier(wish: Wish, activity: Activity, policy: Policy) -> Tier {
    match (wish, activity) {
        (Wish::Stopped | Wish::Suspended | Wish::Leaving | Wish::Removed, _) => Tier::Stopped,
        (Wish::Available, Activity::Working) => Tier::Awake,
        (Wish::Frozen, Activity::Working) => Tier::Frozen,
        (Wish::Available | Wish::Frozen, Activity::Idle(idle)) if idle >= policy.stop_after => Tier::Stopped,
        (Wish::Available, Activity::Idle(idle)) if idle < policy.freeze_after => Tier::Awake,
        (Wish::Available | Wish::Frozen, Activity::Idle(_)) => Tier::Frozen,
    }
}

fn until(limit: Duration, activity: Activity) -> Option<Duration> {
    match activity {
        Activity::Working => None,
        Activity::Idle(idle) => Some(limit.saturating_sub(idle)),
    }
}

/// How long to wait after the `failures`th failure in a row: 1 s, doubling, at most a minute.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

impl Wish {
    /// The one word for it, in database, JSON, metrics, logs and the operator's commands.
    #[must_use]
    pub fn word(self) -> String {
        word(&self)
    }
}

impl Fact {
    /// The one word for it: see [`Wish::word`].
    #[must_use]
    pub fn word(self) -> String {
        word(&self)
    }
}

impl Cause {
    /// The one word for it: see [`Wish::word`].
    #[must_use]
    pub fn word(self) -> String {
        word(&self)
    }
}

fn word(unit: &impl Serialize) -> String {
    match serde_json::to_value(unit) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("unit variants are words, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        freeze_after: Duration::from_secs(300),
        stop_after: Duration::from_secs(1800),
        remove_after: Duration::from_secs(86400),
    };
    const FRESH: Activity = Activity::Idle(Duration::ZERO);
    const IDLE: Activity = Activity::Idle(Duration::from_secs(300));
    const LONG_IDLE: Activity = Activity::Idle(Duration::from_secs(1800));
    const READY: Container = Container::Running { ready: true };
    const UNREADY: Container = Container::Running { ready: false };

    #[test]
    fn the_table() {
        let minutes = |m: u64| Some(Duration::from_secs(m * 60));
        for (sentence, wish, volume, container, activity, step) in [
            ("a new instance gets its volume first", Wish::Available, false, Container::None, FRESH, Step::MakeVolume),
            ("then its container", Wish::Available, true, Container::None, FRESH, Step::MakeContainer),
            (
                "a container of another token is replaced",
                Wish::Available,
                true,
                Container::Outdated,
                FRESH,
                Step::MakeContainer,
            ),
            ("a visit starts what is stopped", Wish::Available, true, Container::Stopped, FRESH, Step::Start),
            ("a visit thaws what is frozen", Wish::Available, true, Container::Frozen, FRESH, Step::Thaw),
            ("running is not awake until it answers", Wish::Available, true, UNREADY, FRESH, Step::AwaitReady),
            ("awake and in use is left alone", Wish::Available, true, READY, Activity::Working, Step::Rest(None)),
            (
                "awake and just used is looked at when it may freeze",
                Wish::Available,
                true,
                READY,
                FRESH,
                Step::Rest(minutes(5)),
            ),
            ("idle freezes", Wish::Available, true, READY, IDLE, Step::Freeze),
            ("idle and never answered stops", Wish::Available, true, UNREADY, IDLE, Step::Stop),
            ("asked to sleep before it answered stops", Wish::Frozen, true, UNREADY, FRESH, Step::Stop),
            (
                "frozen is looked at when it may stop",
                Wish::Available,
                true,
                Container::Frozen,
                IDLE,
                Step::Rest(minutes(25)),
            ),
            ("long idle stops", Wish::Available, true, Container::Frozen, LONG_IDLE, Step::Stop),
            ("idle and stopped stays so", Wish::Available, true, Container::Stopped, IDLE, Step::Rest(None)),
            ("asked to sleep freezes even when just used", Wish::Frozen, true, READY, FRESH, Step::Freeze),
            ("asked to sleep starts nothing", Wish::Frozen, true, Container::Stopped, FRESH, Step::Rest(None)),
            ("asked to stop stops from frozen", Wish::Stopped, true, Container::Frozen, FRESH, Step::Stop),
            (
                "a suspended account's instance stops in the middle of work",
                Wish::Suspended,
                true,
                READY,
                Activity::Working,
                Step::Stop,
            ),
            ("who leaves is stopped in the middle of work", Wish::Leaving, true, READY, Activity::Working, Step::Stop),
            ("and nothing is started for them", Wish::Leaving, true, Container::Stopped, FRESH, Step::Rest(None)),
            ("removal takes the container", Wish::Removed, true, READY, Activity::Working, Step::RemoveContainer),
            ("and keeps the volume", Wish::Removed, true, Container::None, FRESH, Step::Rest(None)),
        ] {
            assert_eq!(decide(wish, Reality { volume, container }, activity, POLICY), step, "{sentence}");
        }
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        prop_oneof![
            Just(Wish::Available),
            Just(Wish::Frozen),
            Just(Wish::Stopped),
            Just(Wish::Suspended),
            Just(Wish::Leaving),
            Just(Wish::Removed)
        ]
    }

    fn realities() -> impl Strategy<Value = Reality> {
        let container = prop_oneof![
            Just(Container::None),
            Just(Container::Outdated),
            Just(Container::Stopped),
            Just(Container::Frozen),
            Just(UNREADY),
            Just(READY)
        ];
        (any::<bool>(), container).prop_map(|(volume, container)| Reality {
            // A container holds its volume: there is none without.
            volume: volume || container != Container::None,
            container,
        })
    }

    fn activities() -> impl Strategy<Value = Activity> {
        prop_oneof![Just(Activity::Working), (0u64..4000).prop_map(|s| Activity::Idle(Duration::from_secs(s)))]
    }

    /// What the world looks like after a step that succeeded.
    fn after(step: Step, reality: Reality) -> Reality {
        let container = match step {
            Step::MakeVolume => return Reality { volume: true, ..reality },
            Step::MakeContainer | Step::Stop => Container::Stopped,
            // Whether what was found frozen had ever answered is not known.
            Step::Start | Step::Thaw => UNREADY,
            Step::AwaitReady => READY,
            Step::Freeze => Container::Frozen,
            Step::RemoveContainer => Container::None,
            Step::Rest(_) => reality.container,
        };
        Reality { container, ..reality }
    }

    proptest! {
        #[test]
        fn a_few_steps_always_end_in_rest(wish in wishes(), mut reality in realities(), activity in activities()) {
            for _ in 0..5 {
                match decide(wish, reality, activity, POLICY) {
                    Step::Rest(_) => return Ok(()),
                    step => reality = after(step, reality),
                }
            }
            prop_assert!(false, "still busy after five steps: {reality:?}");
        }

        #[test]
        fn from_everywhere_stopped_is_reached(mut reality in realities(), activity in activities()) {
            for _ in 0..2 {
                reality = after(decide(Wish::Stopped, reality, activity, POLICY), reality);
            }
            let asleep = !matches!(reality.container, Container::Frozen | Container::Running { .. });
            prop_assert!(asleep);
        }

        #[test]
        fn work_in_flight_never_sleeps_by_itself(mut reality in realities()) {
            for _ in 0..6 {
                let step = decide(Wish::Available, reality, Activity::Working, POLICY);
                prop_assert!(!matches!(step, Step::Freeze | Step::Stop | Step::RemoveContainer));
                reality = after(step, reality);
            }
            prop_assert_eq!(reality.container, READY);
        }
    }
}
