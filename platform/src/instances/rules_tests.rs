//! What [`super::decide`] decides, as tables of sentences and as properties.

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
            Container::Outdated { stopped: true },
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
        ("idle and stopped stays so", Wish::Available, true, Container::Stopped, IDLE, Step::Rest(minutes(1435))),
        ("asked to sleep freezes even when just used", Wish::Frozen, true, READY, FRESH, Step::Freeze),
        ("asked to sleep starts nothing", Wish::Frozen, true, Container::Stopped, FRESH, Step::Rest(minutes(1440))),
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
        ("and nothing is started for them", Wish::Leaving, true, Container::Stopped, FRESH, Step::Rest(minutes(1440))),
        (
            "long stopped gives its container up",
            Wish::Available,
            true,
            Container::Stopped,
            Activity::Idle(Duration::from_secs(86400)),
            Step::RemoveContainer,
        ),
        (
            "stopped is looked at when it may be given up",
            Wish::Available,
            true,
            Container::Stopped,
            LONG_IDLE,
            Step::Rest(Some(Duration::from_secs(84600))),
        ),
        ("removal takes the container", Wish::Removed, true, READY, Activity::Working, Step::RemoveContainer),
        ("and keeps the volume", Wish::Removed, true, Container::None, FRESH, Step::Rest(None)),
    ] {
        let reality = Reality { volume, container, renewal: Renewal::Current };
        assert_eq!(decide(wish, reality, activity, POLICY), step, "{sentence}");
    }
}

#[test]
fn the_table_of_upgrades() {
    for (sentence, container, renewal, activity, step) in [
        ("a newer one starts in its place", Container::Stopped, Renewal::AtNextStart, FRESH, Step::Upgrade),
        (
            "what runs goes on until it next starts",
            READY,
            Renewal::AtNextStart,
            FRESH,
            Step::Rest(Some(POLICY.freeze_after)),
        ),
        ("what sleeps is thawed all the same", Container::Frozen, Renewal::AtNextStart, FRESH, Step::Thaw),
        ("asked for, it stops when nothing is in flight", READY, Renewal::Now, FRESH, Step::Stop),
        ("but not in the middle of work", READY, Renewal::Now, Activity::Working, Step::Rest(None)),
        ("asked for, what sleeps stops first", Container::Frozen, Renewal::Now, Activity::Working, Step::Stop),
        ("and then the newer one starts", Container::Stopped, Renewal::Now, FRESH, Step::Upgrade),
        ("a newer one that does not answer gives way", UNREADY, Renewal::GoBack, FRESH, Step::GoBack),
        ("also when it ended", Container::Stopped, Renewal::GoBack, FRESH, Step::GoBack),
        (
            "nothing is upgraded that nobody wants",
            Container::Stopped,
            Renewal::Now,
            IDLE,
            Step::Rest(Some(Duration::from_secs(86100))),
        ),
    ] {
        let reality = Reality { volume: true, container, renewal };
        assert_eq!(decide(Wish::Available, reality, activity, POLICY), step, "{sentence}");
    }
}

#[test]
fn squeezed_it_sleeps_at_once_unless_it_works() {
    let awake = Reality { volume: true, container: READY, renewal: Renewal::Current };
    let frozen = Reality { container: Container::Frozen, ..awake };
    for (reality, squeeze, activity, step) in [
        (awake, Squeeze::Freeze, FRESH, Step::Freeze),
        (awake, Squeeze::Stop, FRESH, Step::Stop),
        (frozen, Squeeze::Stop, FRESH, Step::Stop),
        (awake, Squeeze::Stop, Activity::Working, Step::Rest(None)),
    ] {
        let policy = POLICY.squeezed(Some(squeeze));
        assert_eq!(decide(Wish::Available, reality, activity, policy), step, "{squeeze:?} {activity:?}");
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
        Just(Container::Outdated { stopped: true }),
        Just(Container::Outdated { stopped: false }),
        Just(Container::Stopped),
        Just(Container::Frozen),
        Just(UNREADY),
        Just(READY)
    ];
    let renewal =
        prop_oneof![Just(Renewal::Current), Just(Renewal::AtNextStart), Just(Renewal::Now), Just(Renewal::GoBack)];
    (any::<bool>(), container, renewal).prop_map(|(volume, container, renewal)| Reality {
        renewal,
        // A container holds its volume: there is none without.
        volume: volume || container != Container::None,
        container,
    })
}

fn activities() -> impl Strategy<Value = Activity> {
    prop_oneof![Just(Activity::Working), (0u64..100_000).prop_map(|s| Activity::Idle(Duration::from_secs(s)))]
}

/// What the world looks like after a step that succeeded.
fn after(step: Step, reality: Reality) -> Reality {
    let container = match step {
        Step::MakeVolume => return Reality { volume: true, ..reality },
        Step::MakeContainer | Step::Upgrade | Step::GoBack => {
            return Reality { container: Container::Stopped, renewal: Renewal::Current, ..reality };
        }
        Step::Stop if matches!(reality.container, Container::Outdated { .. }) => Container::Outdated { stopped: true },
        Step::Stop => Container::Stopped,
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
        for _ in 0..7 {
            match decide(wish, reality, activity, POLICY) {
                Step::Rest(_) => return Ok(()),
                step => reality = after(step, reality),
            }
        }
        prop_assert!(false, "still busy after seven steps: {reality:?}");
    }

    #[test]
    fn from_everywhere_stopped_is_reached(mut reality in realities(), activity in activities()) {
        for _ in 0..2 {
            reality = after(decide(Wish::Stopped, reality, activity, POLICY), reality);
        }
        let asleep = !matches!(
            reality.container,
            Container::Frozen | Container::Running { .. } | Container::Outdated { stopped: false }
        );
        prop_assert!(asleep);
    }

    #[test]
    fn work_in_flight_never_sleeps_by_itself(mut reality in realities()) {
        for _ in 0..7 {
            let step = decide(Wish::Available, reality, Activity::Working, POLICY);
            // What is asked to be renewed while it sleeps stops first; nothing is in flight in it.
            let sleeps = reality.container == Container::Frozen && reality.renewal == Renewal::Now;
            prop_assert!(sleeps || !matches!(step, Step::Freeze | Step::Stop | Step::RemoveContainer));
            reality = after(step, reality);
        }
        prop_assert_eq!(reality.container, READY);
    }
}
