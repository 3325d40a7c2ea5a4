//! The awake report: each change of fact has one cause, the right one, after any sequence of events; and how page, API
//! and command show it.

use std::time::Duration;

use berth::control_socket;
use berth::instances::{Cause, Fact, Wish, Work};
use berth_containers::ContainerExit;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::scenarios::look_at_everything;
use super::scene::{FIVE_MINUTES, HALF_AN_HOUR, HOST, MINUTE, Scene};
use crate::cli;
use berth_testing::databases;
use berth_testing::fake_platform::until;

/// An event of a random sequence.
#[derive(Clone, Copy, Debug)]
enum Event {
    Visit,
    FiveMinutes,
    HalfAnHour,
    OwnerWakes,
    OwnerSleeps,
    OperatorStops,
    Crash,
    PlatformRestarts,
    PagesAreRead,
    StrangerVisits,
}

/// The model: the fact and the changes that the ledger must show by now.
struct ExpectedLedger {
    fact: Fact,
    idle: Duration,
    changes: Vec<(Fact, Cause)>,
}

impl ExpectedLedger {
    fn goes(&mut self, to: Fact, cause: Cause) {
        if self.fact != to {
            self.fact = to;
            self.changes.push((to, cause));
        }
    }

    fn passes(&mut self, time: Duration) {
        self.idle += time;
        if self.idle >= HALF_AN_HOUR {
            self.goes(Fact::Stopped, Cause::Idle);
        } else if self.idle >= FIVE_MINUTES && self.fact == Fact::Awake {
            self.goes(Fact::Frozen, Cause::Idle);
        }
    }

    fn is_used(&mut self, cause: Cause) {
        self.goes(Fact::Awake, cause);
        self.idle = Duration::ZERO;
    }
}

#[tokio::test]
async fn after_any_sequence_of_events_each_change_has_one_cause_the_right_one() {
    use Event::*;
    let events = prop_oneof![
        Just(Visit),
        Just(FiveMinutes),
        Just(HalfAnHour),
        Just(OwnerWakes),
        Just(OwnerSleeps),
        Just(OperatorStops),
        Just(Crash),
        Just(PlatformRestarts),
        Just(PagesAreRead),
        Just(StrangerVisits),
    ];
    let sequences = proptest::collection::vec(events, 14);
    let mut runner = TestRunner::default();
    for _ in 0..3 {
        for database in databases().await {
            let sequence = sequences.new_tree(&mut runner).unwrap().current();
            check(database, &sequence).await;
        }
    }
}

async fn check(database: berth_testing::Database, sequence: &[Event]) {
    let mut scene = Scene::on(database).await;
    let mut expected = ExpectedLedger { fact: Fact::Awake, idle: Duration::ZERO, changes: Vec::new() };
    for event in sequence {
        // Two changes in one millisecond would have no order.
        scene.platform.wait(Duration::from_secs(1)).await;
        expected.passes(Duration::from_secs(1));
        apply(&mut scene, *event, &mut expected).await;
        scene.platform.look().await;
        assert_eq!(scene.changes().await, expected.changes, "after {event:?} of {sequence:?}");
        assert_eq!(scene.fact(), expected.fact, "after {event:?} of {sequence:?}");
    }
    let history = scene.platform.instances().history(scene.alice.instance.id, 100).await.unwrap();
    for (later, earlier) in history.iter().zip(history.iter().skip(1)) {
        assert_eq!(later.from, earlier.to, "a change is missing or there twice: {history:?}");
        assert_ne!(later.from, later.to);
        assert!(later.from == Fact::Awake || later.last.is_none(), "only an awake instance had work: {later:?}");
    }
}

async fn apply(scene: &mut Scene, event: Event, expected: &mut ExpectedLedger) {
    let (instance, instances) = (scene.alice.instance.clone(), scene.platform.instances().clone());
    match event {
        Event::Visit => {
            assert_eq!(scene.platform.get(HOST, "/", &[("cookie", &scene.cookie)]).await.status, 200);
            expected.is_used(Cause::Visit);
        }
        Event::FiveMinutes => {
            scene.platform.wait(FIVE_MINUTES).await;
            expected.passes(FIVE_MINUTES);
        }
        Event::HalfAnHour => {
            scene.platform.wait(HALF_AN_HOUR).await;
            expected.passes(HALF_AN_HOUR);
        }
        Event::OwnerWakes => {
            instances.wake(&instance, Cause::OwnerAsked).await.unwrap();
            until(&instance, |status| status.fact == Fact::Awake).await;
            expected.is_used(Cause::OwnerAsked);
        }
        Event::OwnerSleeps => {
            instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await.unwrap();
            if expected.fact == Fact::Awake {
                expected.goes(Fact::Frozen, Cause::OwnerAsked);
            }
        }
        Event::OperatorStops => {
            instances.sleep(&instance, Wish::Stopped, Cause::OperatorAsked).await.unwrap();
            expected.goes(Fact::Stopped, Cause::OperatorAsked);
        }
        Event::Crash => {
            if expected.fact == Fact::Awake {
                scene.platform.host.crash(instance.id, ContainerExit { code: 1, out_of_memory: false });
                expected.goes(Fact::Stopped, Cause::FoundSo);
                expected.idle = HALF_AN_HOUR;
            }
        }
        Event::PlatformRestarts => {
            scene.platform.restart().await;
            scene.alice.instance = scene.platform.instances().all().pop().unwrap();
            if expected.fact == Fact::Awake {
                // The last use before the restart is not stored, so the idle timeout begins anew.
                expected.idle = Duration::ZERO;
            }
        }
        Event::PagesAreRead => read_pages(scene).await,
        Event::StrangerVisits => {
            assert_eq!(scene.platform.get(HOST, "/", &[]).await.status, 401);
        }
    }
}

/// Reads pages and API as the owner and as a stranger, without the program, which may be asleep.
async fn read_pages(scene: &Scene) {
    let cookie = scene.alice.app_cookie();
    for path in ["/", "/api/instance"] {
        assert_eq!(scene.platform.get("app.example.com", path, &[("cookie", &cookie)]).await.status, 200);
    }
    assert_eq!(scene.platform.send("HEAD", HOST, "/", &[], "").await.status, 401);
}

#[tokio::test]
async fn page_and_api_show_the_owner_why_the_instance_is_awake_and_why_it_slept() {
    for database in databases().await {
        let scene = Scene::on(database).await;
        let cookie = scene.alice.app_cookie();
        let seen = async || scene.platform.get("app.example.com", "/api/instance", &[("cookie", &cookie)]).await.json();
        let page = async || scene.platform.get("app.example.com", "/", &[("cookie", &cookie)]).await.text();

        let work = scene.alice.instance.begin_work(Work::Request);
        let declared = scene.inside("PUT", "/jobs/build").body(r#"{"for_seconds": 600}"#).send().await.unwrap();
        assert_eq!(declared.status(), 200);
        let told = seen().await["work"].clone();
        let start = scene.platform.clock.now().0;
        assert_eq!(
            told["open"],
            json!([{ "work": "request", "count": 1, "since_ms": start, "holds": true, "moved_at_ms": start }])
        );
        assert_eq!(told["jobs"], json!([{ "name": "build", "since_ms": start, "until_ms": start + 600_000 }]));
        assert_eq!(told["sleeps_at_ms"], json!(null));
        let shown = page().await;
        assert!(shown.contains("A request, since") && shown.contains("The job build, until at most"), "{shown}");

        drop(work);
        assert_eq!(scene.inside("DELETE", "/jobs/build").send().await.unwrap().status(), 204);
        scene.platform.wait(MINUTE).await;
        let told = seen().await["work"].clone();
        assert_eq!(told["sleeps_at_ms"], json!(start + 300_000));
        assert_eq!(told["last"], json!({ "work": "job", "at_ms": start }));
        scene.platform.wait(FIVE_MINUTES).await;
        let told = seen().await;
        assert_eq!((&told["fact"], &told["cause"]), (&json!("frozen"), &json!("idle")));
        assert_eq!(told["work"]["idle_since_ms"], json!(start));
        let shown = page().await;
        assert!(shown.contains("Last work") && shown.contains("A declared job, at"), "{shown}");
        let history = scene.platform.instances().history(scene.alice.instance.id, 1).await.unwrap();
        assert_eq!(history[0].last.unwrap().work, Work::Job);
        look_at_everything(&scene).await;
        assert_eq!(scene.fact(), Fact::Frozen, "reading wakes nothing");
    }
}

#[tokio::test]
async fn the_last_work_survives_a_restart() {
    let mut scene = Scene::new().await;
    let mut stream = scene.flow("video/mp4").await;
    scene.say("a frame", &mut stream).await;
    scene.until_frozen().await;
    let before = scene.last();
    scene.platform.restart().await;
    scene.alice.instance = scene.platform.instances().all().pop().unwrap();
    assert_eq!((scene.last(), before.unwrap().work), (before, Work::Stream));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_operator_the_same() {
    let scene = Scene::new().await;
    let (app, config) = (scene.platform.app.clone(), scene.platform.app.config.clone());
    let shown = async || {
        let shown = cli::berth(&config, &["instance", "show", "alice"]).await;
        assert!(shown.succeeded, "{shown:?}");
        shown.text
    };
    assert!(shown().await.contains("work       unknown, because the platform is not running"));

    std::fs::create_dir_all(config.data_dir.join("run")).unwrap();
    let socket = config.control_socket();
    let running = CancellationToken::new();
    let listening = tokio::spawn({
        let (socket, running) = (socket.clone(), running.clone());
        async move { control_socket::listen(&socket, app, running).await }
    });
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let work = [Work::Request, Work::Request, Work::AiCall].map(|work| scene.alice.instance.begin_work(work));
    let told = control_socket::ask_why(&socket, scene.alice.instance.id).await.unwrap().unwrap();
    assert_eq!(told, scene.platform.instances().awake_report(&scene.alice.instance));
    let text = shown().await;
    for line in ["work       2 request, for", "work       1 ai_call, for", "sleeps     not before this work has ended"]
    {
        assert!(text.contains(line), "{text}");
    }
    drop(work);
    scene.platform.wait(FIVE_MINUTES).await;
    let text = shown().await;
    for line in ["fact       frozen (idle)", "last work  ai_call", "idle       for", "last work: ai_call, 300 s before"]
    {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(scene.fact(), Fact::Frozen, "reading wakes nothing");
    running.cancel();
    listening.await.unwrap().unwrap();
}
