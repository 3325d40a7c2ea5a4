//! Tests of [`super::decide`]: decision tables whose rows read as sentences, and properties.

use proptest::prelude::*;

use super::*;
use crate::instances::wishes::ALL_WISHES;

const POLICY: SleepPolicy = SleepPolicy {
    freeze_after: Duration::from_secs(300),
    stop_after: Duration::from_secs(1800),
    remove_after: Duration::from_secs(86400),
};
const FRESH: Activity = Activity::Idle(Duration::ZERO);
const IDLE: Activity = Activity::Idle(Duration::from_secs(300));
const LONG_IDLE: Activity = Activity::Idle(Duration::from_secs(1800));
const READY: ContainerPhase = ContainerPhase::Running { ready: true };
const UNREADY: ContainerPhase = ContainerPhase::Running { ready: false };

#[test]
fn the_table() {
    let minutes = |m: u64| Some(Duration::from_secs(m * 60));
    for (sentence, wish, volume, container, activity, step) in [
        (
            "a new instance gets its volume first",
            Wish::Available,
            false,
            ContainerPhase::None,
            FRESH,
            NextStep::MakeVolume,
        ),
        ("then its container", Wish::Available, true, ContainerPhase::None, FRESH, NextStep::MakeContainer),
        (
            "a container of another token is replaced",
            Wish::Available,
            true,
            ContainerPhase::Outdated { stopped: true },
            FRESH,
            NextStep::MakeContainer,
        ),
        ("a visit starts what is stopped", Wish::Available, true, ContainerPhase::Stopped, FRESH, NextStep::Start),
        ("a visit thaws what is frozen", Wish::Available, true, ContainerPhase::Frozen, FRESH, NextStep::Thaw),
        ("running is not awake until it answers", Wish::Available, true, UNREADY, FRESH, NextStep::AwaitReady),
        ("awake and in use is left alone", Wish::Available, true, READY, Activity::Working, NextStep::Rest(None)),
        (
            "awake and just used is looked at when it may freeze",
            Wish::Available,
            true,
            READY,
            FRESH,
            NextStep::Rest(minutes(5)),
        ),
        ("idle freezes", Wish::Available, true, READY, IDLE, NextStep::Freeze),
        ("idle and never answered stops", Wish::Available, true, UNREADY, IDLE, NextStep::Stop),
        ("asked to sleep before it answered stops", Wish::Frozen, true, UNREADY, FRESH, NextStep::Stop),
        (
            "frozen is looked at when it may stop",
            Wish::Available,
            true,
            ContainerPhase::Frozen,
            IDLE,
            NextStep::Rest(minutes(25)),
        ),
        ("long idle stops", Wish::Available, true, ContainerPhase::Frozen, LONG_IDLE, NextStep::Stop),
        (
            "idle and stopped stays so",
            Wish::Available,
            true,
            ContainerPhase::Stopped,
            IDLE,
            NextStep::Rest(minutes(1435)),
        ),
        ("asked to sleep freezes even when just used", Wish::Frozen, true, READY, FRESH, NextStep::Freeze),
        (
            "asked to sleep starts nothing",
            Wish::Frozen,
            true,
            ContainerPhase::Stopped,
            FRESH,
            NextStep::Rest(minutes(1440)),
        ),
        ("asked to stop stops from frozen", Wish::Stopped, true, ContainerPhase::Frozen, FRESH, NextStep::Stop),
        (
            "a suspended account's instance stops in the middle of work",
            Wish::Suspended,
            true,
            READY,
            Activity::Working,
            NextStep::Stop,
        ),
        ("who leaves is stopped in the middle of work", Wish::Leaving, true, READY, Activity::Working, NextStep::Stop),
        (
            "and nothing is started for them",
            Wish::Leaving,
            true,
            ContainerPhase::Stopped,
            FRESH,
            NextStep::Rest(minutes(1440)),
        ),
        (
            "long stopped gives its container up",
            Wish::Available,
            true,
            ContainerPhase::Stopped,
            Activity::Idle(Duration::from_secs(86400)),
            NextStep::RemoveContainer,
        ),
        (
            "stopped is looked at when it may be given up",
            Wish::Available,
            true,
            ContainerPhase::Stopped,
            LONG_IDLE,
            NextStep::Rest(Some(Duration::from_secs(84600))),
        ),
        ("removal takes the container", Wish::Removed, true, READY, Activity::Working, NextStep::RemoveContainer),
        ("and keeps the volume", Wish::Removed, true, ContainerPhase::None, FRESH, NextStep::Rest(None)),
    ] {
        let observed = ObservedState { volume, container, renewal: ContainerRenewal::Current };
        assert_eq!(decide(wish, observed, activity, POLICY), step, "{sentence}");
    }
}

#[test]
fn the_table_of_upgrades() {
    for (sentence, container, renewal, activity, step) in [
        (
            "a newer one starts in its place",
            ContainerPhase::Stopped,
            ContainerRenewal::AtNextStart,
            FRESH,
            NextStep::Upgrade,
        ),
        (
            "what runs goes on until it next starts",
            READY,
            ContainerRenewal::AtNextStart,
            FRESH,
            NextStep::Rest(Some(POLICY.freeze_after)),
        ),
        (
            "what sleeps is thawed all the same",
            ContainerPhase::Frozen,
            ContainerRenewal::AtNextStart,
            FRESH,
            NextStep::Thaw,
        ),
        ("asked for, it stops when nothing is in flight", READY, ContainerRenewal::Now, FRESH, NextStep::Stop),
        ("but not in the middle of work", READY, ContainerRenewal::Now, Activity::Working, NextStep::Rest(None)),
        (
            "asked for, what sleeps stops first",
            ContainerPhase::Frozen,
            ContainerRenewal::Now,
            Activity::Working,
            NextStep::Stop,
        ),
        ("and then the newer one starts", ContainerPhase::Stopped, ContainerRenewal::Now, FRESH, NextStep::Upgrade),
        ("a newer one that does not answer gives way", UNREADY, ContainerRenewal::RollBack, FRESH, NextStep::RollBack),
        ("also when it ended", ContainerPhase::Stopped, ContainerRenewal::RollBack, FRESH, NextStep::RollBack),
        (
            "nothing is upgraded that nobody wants",
            ContainerPhase::Stopped,
            ContainerRenewal::Now,
            IDLE,
            NextStep::Rest(Some(Duration::from_secs(86100))),
        ),
    ] {
        let observed = ObservedState { volume: true, container, renewal };
        assert_eq!(decide(Wish::Available, observed, activity, POLICY), step, "{sentence}");
    }
}

#[test]
fn squeezed_it_sleeps_at_once_unless_it_works() {
    let awake = ObservedState { volume: true, container: READY, renewal: ContainerRenewal::Current };
    let frozen = ObservedState { container: ContainerPhase::Frozen, ..awake };
    for (observed, pressure, activity, step) in [
        (awake, MemoryPressure::Freeze, FRESH, NextStep::Freeze),
        (awake, MemoryPressure::Stop, FRESH, NextStep::Stop),
        (frozen, MemoryPressure::Stop, FRESH, NextStep::Stop),
        (awake, MemoryPressure::Stop, Activity::Working, NextStep::Rest(None)),
    ] {
        let policy = POLICY.under_pressure(Some(pressure));
        assert_eq!(decide(Wish::Available, observed, activity, policy), step, "{pressure:?} {activity:?}");
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

fn realities() -> impl Strategy<Value = ObservedState> {
    let container = prop_oneof![
        Just(ContainerPhase::None),
        Just(ContainerPhase::Outdated { stopped: true }),
        Just(ContainerPhase::Outdated { stopped: false }),
        Just(ContainerPhase::Stopped),
        Just(ContainerPhase::Frozen),
        Just(UNREADY),
        Just(READY)
    ];
    let renewal = prop_oneof![
        Just(ContainerRenewal::Current),
        Just(ContainerRenewal::AtNextStart),
        Just(ContainerRenewal::Now),
        Just(ContainerRenewal::RollBack)
    ];
    (any::<bool>(), container, renewal).prop_map(|(volume, container, renewal)| ObservedState {
        renewal,
        // A container without a volume is impossible.
        volume: volume || container != ContainerPhase::None,
        container,
    })
}

fn activities() -> impl Strategy<Value = Activity> {
    prop_oneof![Just(Activity::Working), (0u64..100_000).prop_map(|s| Activity::Idle(Duration::from_secs(s)))]
}

/// The observed state after a successful step.
fn after(step: NextStep, observed: ObservedState) -> ObservedState {
    let container = match step {
        NextStep::MakeVolume => return ObservedState { volume: true, ..observed },
        NextStep::MakeContainer | NextStep::Upgrade | NextStep::RollBack => {
            return ObservedState {
                container: ContainerPhase::Stopped,
                renewal: ContainerRenewal::Current,
                ..observed
            };
        }
        NextStep::Stop if matches!(observed.container, ContainerPhase::Outdated { .. }) => {
            ContainerPhase::Outdated { stopped: true }
        }
        NextStep::Stop => ContainerPhase::Stopped,
        // Whether a container found frozen was ever ready is unknown.
        NextStep::Start | NextStep::Thaw => UNREADY,
        NextStep::AwaitReady => READY,
        NextStep::Freeze => ContainerPhase::Frozen,
        NextStep::RemoveContainer => ContainerPhase::None,
        NextStep::Rest(_) => observed.container,
    };
    ObservedState { container, ..observed }
}

proptest! {
    #[test]
    fn a_few_steps_always_end_in_rest(wish in wishes(), mut observed in realities(), activity in activities()) {
        for _ in 0..7 {
            match decide(wish, observed, activity, POLICY) {
                NextStep::Rest(_) => return Ok(()),
                step => observed = after(step, observed),
            }
        }
        prop_assert!(false, "still busy after seven steps: {observed:?}");
    }

    #[test]
    fn from_everywhere_stopped_is_reached(mut observed in realities(), activity in activities()) {
        for _ in 0..2 {
            observed = after(decide(Wish::Stopped, observed, activity, POLICY), observed);
        }
        let asleep = !matches!(
            observed.container,
            ContainerPhase::Frozen | ContainerPhase::Running { .. } | ContainerPhase::Outdated { stopped: false }
        );
        prop_assert!(asleep);
    }

    #[test]
    fn work_in_flight_never_sleeps_by_itself(mut observed in realities()) {
        for _ in 0..7 {
            let step = decide(Wish::Available, observed, Activity::Working, POLICY);
            // A frozen container with a requested renewal stops first; no work is in flight in it.
            let sleeps = observed.container == ContainerPhase::Frozen && observed.renewal == ContainerRenewal::Now;
            prop_assert!(sleeps || !matches!(step, NextStep::Freeze | NextStep::Stop | NextStep::RemoveContainer));
            observed = after(step, observed);
        }
        prop_assert_eq!(observed.container, READY);
    }
}

#[test]
fn the_database_reads_back_the_words_that_are_written() {
    let reads = |word: &str| serde_json::Value::String(word.to_owned());
    for wish in ALL_WISHES {
        assert_eq!(serde_json::from_value::<Wish>(reads(wish.as_str())).unwrap(), wish);
    }
    for fact in [Fact::Absent, Fact::Provisioning, Fact::Upgrading, Fact::Failed] {
        assert_eq!(serde_json::from_value::<Fact>(reads(fact.as_str())).unwrap(), fact);
    }
    for cause in [Cause::SignUp, Cause::OwnerAsked, Cause::OperatorAsked, Cause::FoundSo] {
        assert_eq!(serde_json::from_value::<Cause>(reads(cause.as_str())).unwrap(), cause);
    }
}
