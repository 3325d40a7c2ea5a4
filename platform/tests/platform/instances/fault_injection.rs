//! Fault injection at every step of every transition of an instance: the call to the provisioner fails before its
//! effect, fails after it, or is executed twice. The transition is then undone under the same fault. The instance
//! reaches its target each time, and no container, volume or row is left over.

use std::collections::BTreeSet;
use std::time::Duration;

use berth::accounts::AccountState;
use berth::instances::{Cause, Fact, Wish};
use berth_containers::{ContainerHost as _, ContainerState};

use berth_testing::fake_platform::FakePlatform;
use berth_testing::fault_proxy::{Deed, FaultTiming, Points};
use berth_testing::person::Person;
use berth_testing::soak::SoakTest;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longer than the longest backoff after a failure, and shorter than the idle timeout.
const PAUSE: Duration = Duration::from_secs(61);
/// Rounds within which the instance must have reached its target.
const ROUNDS: usize = 6;
const IMAGE: &str = "berth-instance:latest";

/// A transition between two states at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transition {
    SignUp,
    Freeze,
    Thaw,
    Stop,
    Start,
    Upgrade,
    Remove,
    Recreate,
}

const TRANSITIONS: [Transition; 8] = [
    Transition::SignUp,
    Transition::Freeze,
    Transition::Thaw,
    Transition::Stop,
    Transition::Start,
    Transition::Upgrade,
    Transition::Remove,
    Transition::Recreate,
];

/// The faults of one step. After a dropped connection the client repeats the call on another one, so that step is
/// executed twice as well.
const FAULTS: [(&str, FaultTiming, Deed); 6] = [
    ("fails before", FaultTiming::Before, Deed::Fail),
    ("fails after", FaultTiming::After, Deed::Fail),
    ("is lost before", FaultTiming::Before, Deed::Drop),
    ("is lost after", FaultTiming::After, Deed::Drop),
    ("runs twice", FaultTiming::Before, Deed::Twice),
    ("is answered twice", FaultTiming::After, Deed::Twice),
];

impl Transition {
    /// Brings an awake instance to the state in which the transition begins.
    async fn prepare(self, platform: &FakePlatform, person: &Person) {
        let operator = Cause::OperatorAsked;
        match self {
            Self::SignUp | Self::Freeze | Self::Stop | Self::Remove => return,
            Self::Thaw => return platform.wait(FIVE_MINUTES).await,
            Self::Start | Self::Upgrade => platform.wait(HALF_AN_HOUR).await,
            Self::Recreate => {
                platform.clock.advance(Duration::from_secs(1));
                platform.instances().sleep(&person.instance, Wish::Removed, operator).await.unwrap();
                platform.look().await;
            }
        }
        if self == Self::Upgrade {
            platform.host.rebuild_image(IMAGE);
        }
    }

    /// Starts the transition.
    async fn begin(self, platform: &FakePlatform, person: &Person) {
        platform.clock.advance(Duration::from_secs(1));
        match self {
            Self::SignUp => {}
            Self::Freeze => platform.wait(FIVE_MINUTES).await,
            Self::Stop => platform.wait(HALF_AN_HOUR).await,
            Self::Thaw | Self::Start | Self::Upgrade => platform.visit(&person.instance).await,
            Self::Remove => undo(platform, person).await,
            Self::Recreate => {
                platform.instances().wake(&person.instance, Cause::OperatorAsked).await.unwrap();
            }
        }
        platform.instances().settled().await;
    }

    fn end(self) -> Fact {
        match self {
            Self::Freeze => Fact::Frozen,
            Self::Stop => Fact::Stopped,
            Self::Remove => Fact::Removed,
            _ => Fact::Awake,
        }
    }
}

async fn undo(platform: &FakePlatform, person: &Person) {
    platform.clock.advance(Duration::from_secs(1));
    platform.instances().sleep(&person.instance, Wish::Removed, Cause::OperatorAsked).await.unwrap();
    platform.instances().settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transition_completes_when_a_step_fails_or_runs_twice() {
    let mut long = SoakTest::story("fault_injection");
    let platform = FakePlatform::behind_a_fault_proxy(&[]).await;
    let points = platform.fault_proxy.as_ref().unwrap().points.clone();
    let mut cases = Vec::new();
    for transition in TRANSITIONS {
        let steps = run(&platform, &points, transition, None).await;
        assert!(!steps.is_empty(), "{transition:?} has no step");
        cases.extend(steps.into_iter().flat_map(|step| FAULTS.map(|fault| (transition, step, fault))));
    }
    long.shuffle(&mut cases);
    cases.truncate(long.count(24, cases.len()));
    for (transition, step, fault) in &cases {
        run(&platform, &points, *transition, Some((step, fault))).await;
    }
    long.say(&format!("{} faults survived, nothing left over", cases.len()));
}

/// Runs one transition and undoes it; returns the verbs that the transition called.
async fn run(
    platform: &FakePlatform,
    points: &Points,
    transition: Transition,
    fault: Option<(&'static str, &(&'static str, FaultTiming, Deed))>,
) -> BTreeSet<&'static str> {
    const VERBS: [&str; 9] =
        ["ensure_volume", "create", "start", "freeze", "thaw", "stop", "remove_container", "inspect", "load"];
    let what = fault
        .as_ref()
        .map_or_else(|| format!("{transition:?}"), |(step, (word, ..))| format!("{transition:?}: {step} {word}"));
    // Sign-ups are limited to sixty an hour.
    platform.wait(PAUSE).await;
    let set = |fault: &Option<(&str, &(&str, FaultTiming, Deed))>| {
        if let Some((step, (_, moment, deed))) = fault {
            points.once(step, *moment, deed.clone());
        }
    };
    let said = || VERBS.map(|verb| points.said(verb));
    let mut before = said();
    if transition == Transition::SignUp {
        set(&fault);
    }
    let person = platform.sign_up(&next_handle()).await;
    platform.instances().settled().await;
    if transition != Transition::SignUp {
        until_fact(platform, &person, Fact::Awake, &what).await;
        transition.prepare(platform, &person).await;
        before = said();
        set(&fault);
    }
    transition.begin(platform, &person).await;
    until_fact(platform, &person, transition.end(), &what).await;
    let steps = VERBS.into_iter().zip(before).filter(|(verb, before)| points.said(verb) > *before);
    let steps = steps.map(|(verb, _)| verb).collect();
    assert_consistent(platform, &person, &what).await;

    points.clear();
    // Undone twice under the same fault.
    for _ in 0..2 {
        if let Some((_, (_, moment, deed))) = &fault {
            points.once("remove_container", *moment, deed.clone());
        }
        undo(platform, &person).await;
        until_fact(platform, &person, Fact::Removed, &what).await;
        points.clear();
    }
    let seen = platform.host.inspect(person.instance.id).await.unwrap();
    assert!(seen.container.is_none() && seen.volume, "{what}: only the files are left");
    delete_account(platform, points, &person, fault.map(|(_, fault)| fault), &what).await;
    steps
}

/// Deletes the account with the same fault at each step of the deletion: nothing is left.
async fn delete_account(
    platform: &FakePlatform,
    points: &Points,
    person: &Person,
    fault: Option<&(&'static str, FaultTiming, Deed)>,
    what: &str,
) {
    let handle = &person.instance.handle;
    platform.app.accounts.schedule_deletion_of(handle, "operator").await.unwrap();
    if let Some((_, moment, deed)) = fault {
        for verb in ["bury_volume", "remove_container", "destroy_volume"] {
            points.once(verb, *moment, deed.clone());
        }
    }
    for _ in 0..ROUNDS {
        platform.look().await;
        // A later run finishes a deletion that failed.
        let _ = platform.app.accounts.advance_deletions(&platform.app.modules).await;
        platform.wait(WEEK).await;
    }
    points.clear();
    let seen = platform.host.inspect(person.instance.id).await.unwrap();
    assert!(seen.container.is_none() && !seen.volume, "{what}: {seen:?}");
    assert_eq!(platform.host.host_report().await.unwrap().buried, 0, "{what}");
    assert!(platform.instances().by_handle(handle).is_none(), "{what}: the row is there");
    let account = platform.app.accounts.account(handle).await.unwrap();
    assert_eq!(account.state, AccountState::Deleted, "{what}: the account is there");
}

/// Waits out the backoffs until the instance has reached `fact`.
async fn until_fact(platform: &FakePlatform, person: &Person, fact: Fact, what: &str) {
    for _ in 0..ROUNDS {
        if person.instance.fact() == fact {
            return;
        }
        platform.wait(PAUSE).await;
    }
    panic!("{what}: {:?} instead of {fact:?}", person.instance.status());
}

/// At most one container, in the state that the fact says, with the token that the database knows.
async fn assert_consistent(platform: &FakePlatform, person: &Person, what: &str) {
    let id = person.instance.id;
    let all = platform.host.list().await.unwrap();
    let ours: Vec<_> = all.iter().filter(|seen| seen.instance == id).collect();
    assert!(ours.len() == 1 && ours[0].volume, "{what}: {ours:?}");
    let state = ours[0].container.as_ref().map(|container| container.state);
    let expected = match person.instance.fact() {
        Fact::Awake => Some(ContainerState::Running),
        Fact::Frozen => Some(ContainerState::Frozen),
        Fact::Stopped => Some(ContainerState::Stopped),
        _ => None,
    };
    assert_eq!(state, expected, "{what}");
    if let Some(spec) = platform.host.spec(id) {
        let by_token = platform.instances().by_token_hash(&berth_ground::secrets::hash(&spec.token));
        assert!(by_token.is_some_and(|instance| instance.id == id), "{what}: the token is another's");
    }
    let recorded = platform.instances().recorded(id).await.unwrap();
    assert_eq!(recorded.fact, person.instance.fact(), "{what}: the database says the same");
}

fn next_handle() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("person{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
