//! The awake report: one cause for each change, the right one, whatever happens; and what is shown of it.

use std::time::Duration;

use berth::containers::ContainerExit;
use berth::control_socket;
use berth::instances::{Cause, Fact, Wish, Work};
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

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Visit,
    FiveMinutes,
    HalfAnHour,
    OwnerWakes,
    OwnerSleeps,
    OperatorStops,
    Crash,
    PlatformRestarts,
    EverybodyLooks,
    StrangerVisits,
}

/// What should have been written by now, kept beside the platform.
struct Chronicle {
    fact: Fact,
    idle: Duration,
    told: Vec<(Fact, Cause)>,
}

impl Chronicle {
    fn goes(&mut self, to: Fact, cause: Cause) {
        if self.fact != to {
            self.fact = to;
            self.told.push((to, cause));
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
async fn each_change_has_one_cause_and_it_is_the_right_one_whatever_happens() {
    use Happening::*;
    let happenings = prop_oneof![
        Just(Visit),
        Just(FiveMinutes),
        Just(HalfAnHour),
        Just(OwnerWakes),
        Just(OwnerSleeps),
        Just(OperatorStops),
        Just(Crash),
        Just(PlatformRestarts),
        Just(EverybodyLooks),
        Just(StrangerVisits),
    ];
    let stories = proptest::collection::vec(happenings, 14);
    let mut runner = TestRunner::default();
    for _ in 0..3 {
        for database in databases().await {
            let story = stories.new_tree(&mut runner).unwrap().current();
            tell(database, &story).await;
        }
    }
}

async fn tell(database: berth_testing::Database, story: &[Happening]) {
    let mut scene = Scene::on(database).await;
    let mut chronicle = Chronicle { fact: Fact::Awake, idle: Duration::ZERO, told: Vec::new() };
    for happening in story {
        // So that no two changes are written at the same moment.
        scene.platform.wait(Duration::from_secs(1)).await;
        chronicle.passes(Duration::from_secs(1));
        happen(&mut scene, *happening, &mut chronicle).await;
        scene.platform.look().await;
        assert_eq!(scene.changes().await, chronicle.told, "after {happening:?} of {story:?}");
        assert_eq!(scene.fact(), chronicle.fact, "after {happening:?} of {story:?}");
    }
    let history = scene.platform.instances().history(scene.alice.instance.id, 100).await.unwrap();
    for (later, earlier) in history.iter().zip(history.iter().skip(1)) {
        assert_eq!(later.from, earlier.to, "a change is missing or there twice: {history:?}");
        assert_ne!(later.from, later.to);
        assert!(later.from == Fact::Awake || later.last.is_none(), "only what was awake was at something: {later:?}");
    }
}

async fn happen(scene: &mut Scene, happening: Happening, chronicle: &mut Chronicle) {
    let (instance, instances) = (scene.alice.instance.clone(), scene.platform.instances().clone());
    match happening {
        Happening::Visit => {
            assert_eq!(scene.platform.get(HOST, "/", &[("cookie", &scene.cookie)]).await.status, 200);
            chronicle.is_used(Cause::Visit);
        }
        Happening::FiveMinutes => {
            scene.platform.wait(FIVE_MINUTES).await;
            chronicle.passes(FIVE_MINUTES);
        }
        Happening::HalfAnHour => {
            scene.platform.wait(HALF_AN_HOUR).await;
            chronicle.passes(HALF_AN_HOUR);
        }
        Happening::OwnerWakes => {
            instances.wake(&instance, Cause::OwnerAsked).await.unwrap();
            until(&instance, |status| status.fact == Fact::Awake).await;
            chronicle.is_used(Cause::OwnerAsked);
        }
        Happening::OwnerSleeps => {
            instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await.unwrap();
            if chronicle.fact == Fact::Awake {
                chronicle.goes(Fact::Frozen, Cause::OwnerAsked);
            }
        }
        Happening::OperatorStops => {
            instances.sleep(&instance, Wish::Stopped, Cause::OperatorAsked).await.unwrap();
            chronicle.goes(Fact::Stopped, Cause::OperatorAsked);
        }
        Happening::Crash => {
            if chronicle.fact == Fact::Awake {
                scene.platform.host.crash(instance.id, ContainerExit { code: 1, out_of_memory: false });
                chronicle.goes(Fact::Stopped, Cause::FoundSo);
                chronicle.idle = HALF_AN_HOUR;
            }
        }
        Happening::PlatformRestarts => {
            scene.platform.restart().await;
            scene.alice.instance = scene.platform.instances().all().pop().unwrap();
            if chronicle.fact == Fact::Awake {
                // What was in use when the last process ended is not known.
                chronicle.idle = Duration::ZERO;
            }
        }
        Happening::EverybodyLooks => look_around(scene).await,
        Happening::StrangerVisits => {
            assert_eq!(scene.platform.get(HOST, "/", &[]).await.status, 401);
        }
    }
}

/// Without the program inside, which may be asleep.
async fn look_around(scene: &Scene) {
    let cookie = format!("__Host-berth={}", scene.alice.signed_in.session.reveal());
    for path in ["/", "/api/instance"] {
        assert_eq!(scene.platform.get("app.example.com", path, &[("cookie", &cookie)]).await.status, 200);
    }
    assert_eq!(scene.platform.send("HEAD", HOST, "/", &[], "").await.status, 401);
}

#[tokio::test]
async fn the_owner_reads_why_it_is_awake_and_why_it_slept() {
    for database in databases().await {
        let scene = Scene::on(database).await;
        let cookie = format!("__Host-berth={}", scene.alice.signed_in.session.reveal());
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
async fn what_it_was_last_at_is_still_known_after_a_restart() {
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
async fn the_operator_reads_the_same_on_the_command_line() {
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
