//! Every step of every way an instance can take fails before its effect, fails after it, and is done twice; then
//! the whole is undone, with the same trouble. Each time it arrives where it was going, and nothing is left over.

use std::collections::BTreeSet;
use std::time::Duration;

use berth::accounts::AccountState;
use berth::containers::{ContainerHost as _, ContainerState};
use berth::instances::{Cause, Fact, Wish};

use berth_testing::fake_platform::{FakePlatform, Person};
use berth_testing::fault_proxy::{Deed, FaultTiming, Points};
use berth_testing::soak::SoakTest;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longer than the longest pause after a failure, and short of falling asleep.
const PAUSE: Duration = Duration::from_secs(61);
/// Rounds after which it must have arrived.
const ROUNDS: usize = 6;
const IMAGE: &str = "berth-instance:latest";

/// A way from one rest to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saga {
    SignUp,
    Freeze,
    Thaw,
    Stop,
    Start,
    Upgrade,
    Remove,
    MakeAgain,
}

const SAGAS: [Saga; 8] =
    [Saga::SignUp, Saga::Freeze, Saga::Thaw, Saga::Stop, Saga::Start, Saga::Upgrade, Saga::Remove, Saga::MakeAgain];

/// What goes wrong with one step. A connection that ends is asked again on another, so the step is then done twice as
/// well.
const TROUBLES: [(&str, FaultTiming, Deed); 6] = [
    ("fails before", FaultTiming::Before, Deed::Fail),
    ("fails after", FaultTiming::After, Deed::Fail),
    ("is lost before", FaultTiming::Before, Deed::Drop),
    ("is lost after", FaultTiming::After, Deed::Drop),
    ("runs twice", FaultTiming::Before, Deed::Twice),
    ("is answered twice", FaultTiming::After, Deed::Twice),
];

impl Saga {
    /// Where it begins, for somebody who is awake.
    async fn prepare(self, platform: &FakePlatform, person: &Person) {
        let operator = Cause::OperatorAsked;
        match self {
            Self::SignUp | Self::Freeze | Self::Stop | Self::Remove => return,
            Self::Thaw => return platform.wait(FIVE_MINUTES).await,
            Self::Start | Self::Upgrade => platform.wait(HALF_AN_HOUR).await,
            Self::MakeAgain => {
                platform.clock.advance(Duration::from_secs(1));
                platform.instances().sleep(&person.instance, Wish::Removed, operator).await.unwrap();
                platform.look().await;
            }
        }
        if self == Self::Upgrade {
            platform.host.rebuild_image(IMAGE);
        }
    }

    /// Sets out.
    async fn begin(self, platform: &FakePlatform, person: &Person) {
        platform.clock.advance(Duration::from_secs(1));
        match self {
            Self::SignUp => {}
            Self::Freeze => platform.wait(FIVE_MINUTES).await,
            Self::Stop => platform.wait(HALF_AN_HOUR).await,
            Self::Thaw | Self::Start | Self::Upgrade => platform.visit(&person.instance).await,
            Self::Remove => undo(platform, person).await,
            Self::MakeAgain => {
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
async fn every_step_may_fail_before_and_after_and_be_done_and_undone_twice() {
    let mut long = SoakTest::story("fault_injection");
    let platform = FakePlatform::behind_a_relay(&[]).await;
    let points = platform.relay.as_ref().unwrap().points.clone();
    let mut cases = Vec::new();
    for saga in SAGAS {
        let steps = walk(&platform, &points, saga, None).await;
        assert!(!steps.is_empty(), "{saga:?} has no step");
        cases.extend(steps.into_iter().flat_map(|step| TROUBLES.map(|trouble| (saga, step, trouble))));
    }
    long.shuffle(&mut cases);
    cases.truncate(long.count(24, cases.len()));
    for (saga, step, trouble) in &cases {
        walk(&platform, &points, *saga, Some((step, trouble))).await;
    }
    long.say(&format!("{} troubles survived, nothing left over", cases.len()));
}

/// Walks one saga, and back; the verbs it took.
async fn walk(
    platform: &FakePlatform,
    points: &Points,
    saga: Saga,
    trouble: Option<(&'static str, &(&'static str, FaultTiming, Deed))>,
) -> BTreeSet<&'static str> {
    const VERBS: [&str; 9] =
        ["ensure_volume", "create", "start", "freeze", "thaw", "stop", "remove_container", "inspect", "load"];
    let what =
        trouble.as_ref().map_or_else(|| format!("{saga:?}"), |(step, (word, ..))| format!("{saga:?}: {step} {word}"));
    // Sixty an hour may sign up.
    platform.wait(PAUSE).await;
    let set = |trouble: &Option<(&str, &(&str, FaultTiming, Deed))>| {
        if let Some((step, (_, moment, deed))) = trouble {
            points.once(step, *moment, deed.clone());
        }
    };
    let said = || VERBS.map(|verb| points.said(verb));
    let mut before = said();
    if saga == Saga::SignUp {
        set(&trouble);
    }
    let person = platform.sign_up(next_handle()).await;
    platform.instances().settled().await;
    if saga != Saga::SignUp {
        arrive(platform, &person, Fact::Awake, &what).await;
        saga.prepare(platform, &person).await;
        before = said();
        set(&trouble);
    }
    saga.begin(platform, &person).await;
    arrive(platform, &person, saga.end(), &what).await;
    let steps = VERBS.into_iter().zip(before).filter(|(verb, before)| points.said(verb) > *before);
    let steps = steps.map(|(verb, _)| verb).collect();
    is_whole(platform, &person, &what).await;

    points.clear();
    // Undone, with the same trouble, and once more.
    for _ in 0..2 {
        if let Some((_, (_, moment, deed))) = &trouble {
            points.once("remove_container", *moment, deed.clone());
        }
        undo(platform, &person).await;
        arrive(platform, &person, Fact::Removed, &what).await;
        points.clear();
    }
    let seen = platform.host.inspect(person.instance.id).await.unwrap();
    assert!(seen.container.is_none() && seen.volume, "{what}: only the files are left");
    leave(platform, points, &person, trouble.map(|(_, trouble)| trouble), &what).await;
    steps
}

/// Leaves for good, with the same trouble at each step of that: nothing is left at all.
async fn leave(
    platform: &FakePlatform,
    points: &Points,
    person: &Person,
    trouble: Option<&(&'static str, FaultTiming, Deed)>,
    what: &str,
) {
    let handle = &person.instance.handle;
    platform.app.accounts.schedule_deletion_of(handle, "operator").await.unwrap();
    if let Some((_, moment, deed)) = trouble {
        for verb in ["bury_volume", "remove_container", "destroy_volume"] {
            points.once(verb, *moment, deed.clone());
        }
    }
    for _ in 0..ROUNDS {
        platform.look().await;
        // One that breaks is finished by a later one.
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

/// Waits out the pauses until it is where it was going.
async fn arrive(platform: &FakePlatform, person: &Person, fact: Fact, what: &str) {
    for _ in 0..ROUNDS {
        if person.instance.fact() == fact {
            return;
        }
        platform.wait(PAUSE).await;
    }
    panic!("{what}: {:?} instead of {fact:?}", person.instance.status());
}

/// One container at most, in the state that is said, with the token that the ledger knows.
async fn is_whole(platform: &FakePlatform, person: &Person, what: &str) {
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
        let by_token = platform.instances().by_token_hash(&berth::secrets::hash(&spec.token));
        assert!(by_token.is_some_and(|instance| instance.id == id), "{what}: the token is another's");
    }
    let recorded = platform.instances().recorded(id).await.unwrap();
    assert_eq!(recorded.fact, person.instance.fact(), "{what}: the ledger says the same");
}

fn next_handle() -> &'static str {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("walker{}", NEXT.fetch_add(1, Ordering::Relaxed)).leak()
}
