//! Twelve kinds of activity in or around an instance, and whether each keeps the instance awake beyond the idle
//! timeout.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use berth::instances::{Fact, Work};
use berth::ops;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt as _;

use super::scene::{HOST, MINUTE, Scene, read_until};

/// An activity, and the fact of the instance after six minutes of it; an idle instance is frozen after five.
const SCENARIOS: [(&str, Fact); 12] = [
    ("an open tab that only pings", Fact::Frozen),
    ("a streaming video", Fact::Awake),
    ("a WebSocket with data", Fact::Awake),
    ("an AI call in flight", Fact::Awake),
    ("a CPU-bound job", Fact::Awake),
    // Between its runs the program is idle; a program that must run on time sets an alarm or declares a job.
    ("a cron inside that does little each minute", Fact::Frozen),
    ("an upload", Fact::Awake),
    ("a long poll", Fact::Awake),
    ("a declared job", Fact::Awake),
    ("a probe", Fact::Frozen),
    ("a crawler", Fact::Frozen),
    ("the operator and the owner looking", Fact::Frozen),
];

#[tokio::test]
async fn each_kind_of_activity_keeps_an_instance_awake_or_lets_it_freeze() {
    for (what, expected) in SCENARIOS {
        let scene = Scene::new().await;
        go_on(&scene, what).await;
        assert_eq!(
            scene.fact(),
            expected,
            "{what}: {:?}",
            scene.platform.instances().awake_report(&scene.alice.instance)
        );
    }
}

/// Six minutes of the activity: one act at the beginning of each minute.
async fn go_on(scene: &Scene, what: &str) {
    match what {
        "an open tab that only pings" => {
            let mut socket = scene.websocket().await;
            every_minute(scene, async |_| {
                socket.send(Message::Ping("still there?".into())).await.unwrap();
                assert!(socket.next().await.unwrap().unwrap().is_pong());
            })
            .await;
        }
        "a WebSocket with data" => {
            let mut socket = scene.websocket().await;
            every_minute(scene, async |_| {
                socket.send(Message::text("hello")).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
            })
            .await;
            assert_eq!(scene.last().unwrap().work, Work::Socket);
        }
        "a streaming video" => {
            let mut stream = scene.flow("video/mp4").await;
            every_minute(scene, async |_| scene.say("a frame", &mut stream).await).await;
            assert_eq!(scene.last().unwrap().work, Work::Stream);
        }
        "an AI call in flight" => {
            // The model begins to answer long after this test has ended.
            let body = json!({ "model": "berth-demo", "max_tokens": 100, "stream": true,
                "messages": [{ "role": "user", "content": "x-demo-first-byte-ms=60000" }] });
            let call = scene.inside("POST", "/anthropic/v1/messages").body(body.to_string()).send();
            let call = tokio::spawn(call);
            scene.until_open(Work::AiCall, 1).await;
            every_minute(scene, async |_| ()).await;
            assert!(!call.is_finished());
            call.abort();
        }
        "a CPU-bound job" => {
            every_minute(scene, async |minute| scene.used(MINUTE * minute).await).await;
            assert_eq!(scene.last().unwrap().work, Work::Processor);
        }
        "a cron inside that does little each minute" => {
            // Two seconds of a minute are 3 % of a core.
            every_minute(scene, async |minute| scene.used(Duration::from_secs(2) * minute).await).await;
        }
        "an upload" => {
            let mut stream = scene.request("POST /echo\nContent-Length: 60\r\n", "").await;
            scene.until_open(Work::Upload, 1).await;
            every_minute(scene, async |minute| {
                let before = scene.last();
                stream.write_all(b"ten bytes.").await.unwrap();
                while minute < 6 && scene.last() == before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            assert!(read_until(&mut stream, "\"bytes\":60").await.starts_with("HTTP/1.1 200"));
        }
        "a long poll" => {
            let mut stream = scene.request("GET /late", "").await;
            scene.until_open(Work::Request, 1).await;
            every_minute(scene, async |_| ()).await;
            while scene.platform.said.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
            scene.say("at last", &mut stream).await;
        }
        "a declared job" => {
            let declared = scene.inside("PUT", "/jobs/build").body(r#"{"for_seconds": 600}"#).send().await.unwrap();
            assert_eq!(declared.status(), 200);
            every_minute(scene, async |_| ()).await;
        }
        "a probe" => {
            every_minute(scene, async |minute| {
                let cookie = ("cookie", scene.cookie.as_str());
                let status = if minute < 6 { 200 } else { 503 };
                assert_eq!(scene.platform.send("HEAD", HOST, "/", &[cookie], "").await.status, status);
                let icon = scene.platform.get(HOST, "/favicon.ico", &[cookie]).await;
                assert_eq!(icon.status, if minute < 6 { 404 } else { 503 });
            })
            .await;
        }
        "a crawler" => {
            every_minute(scene, async |_| {
                for path in ["/", "/robots.txt", "/admin.php"] {
                    assert_eq!(scene.platform.get(HOST, path, &[]).await.status, 401);
                }
            })
            .await;
        }
        "the operator and the owner looking" => every_minute(scene, async |_| look_at_everything(scene).await).await,
        other => unreachable!("{other} is no scenario"),
    }
}

async fn every_minute(scene: &Scene, mut what: impl AsyncFnMut(u32)) {
    for minute in 1..=6 {
        what(minute).await;
        scene.platform.wait(MINUTE).await;
    }
}

/// Reads every page, endpoint and metric that shows the instance to its owner or to the operator.
pub async fn look_at_everything(scene: &Scene) {
    let platform = &scene.platform;
    let cookie = scene.alice.app_cookie();
    for path in ["/", "/api/instance", "/api/account"] {
        assert_eq!(platform.get("app.example.com", path, &[("cookie", &cookie)]).await.status, 200, "{path}");
    }
    assert!(
        ops::render(&platform.app.metrics, &platform.app.modules, platform.clock.now()).contains("berth_instances")
    );
    let ask = Router::new().route("/ask", get(berth::edge::ask)).with_state(platform.app.clone());
    let asked = Request::get(format!("/ask?domain={HOST}")).body(Body::empty()).unwrap();
    assert_eq!(ask.oneshot(asked).await.unwrap().status(), 200, "Caddy asks for its certificate");
    let accounts = platform.app.accounts.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1);
    platform.instances().history(scene.alice.instance.id, 10).await.unwrap();
    let budget = scene.inside("GET", "/budget").send().await.unwrap();
    let jobs = scene.inside("GET", "/jobs").send().await.unwrap();
    assert_eq!((budget.status().as_u16(), jobs.status().as_u16()), (200, 200));
}
