//! Streams, uploads, WebSockets and jobs that are open when their instance is frozen: no byte is lost, and the next
//! data wakes the instance.

use berth::instances::{Cause, Fact, MAX_JOBS, Wish, Work};
use berth_containers::fake::Verb;
use berth_containers::{ContainerExit, ContainerState};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::scene::{FIVE_MINUTES, HALF_AN_HOUR, HOST, MINUTE, Scene, read_until};
use berth_testing::fake_platform::until;
use berth_testing::stub_program::BULK;

#[tokio::test]
async fn comments_of_an_event_stream_let_the_instance_sleep_and_events_keep_it_awake() {
    for (text, fact) in [(": still there\n\n", Fact::Frozen), ("data: news\n\n", Fact::Awake)] {
        let scene = Scene::new().await;
        let mut stream = scene.flow("text/event-stream").await;
        for _ in 0..6 {
            scene.say(text, &mut stream).await;
            scene.platform.wait(MINUTE).await;
        }
        assert_eq!(scene.fact(), fact, "{text:?}");
    }
}

#[tokio::test]
async fn a_stalled_download_completes_after_the_instance_was_frozen() {
    let scene = Scene::new().await;
    let mut stream = scene.request("GET /bulk", "").await;
    read_until(&mut stream, "\r\n\r\n").await;
    scene.until_frozen().await;
    let instance = std::sync::Arc::clone(&scene.alice.instance);
    let woken = tokio::spawn(async move { until(&instance, |status| status.fact == Fact::Awake).await });
    let (mut rest, mut chunk) = (0, vec![0; 1 << 20]);
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        rest += n;
    }
    assert!(rest > BULK - 4096, "{rest} of {BULK} bytes came");
    assert_eq!(woken.await.unwrap().cause, Cause::Visit);
}

#[tokio::test]
async fn a_stalled_upload_completes_after_the_instance_was_frozen() {
    let scene = Scene::new().await;
    let mut stream = scene.request("POST /echo\nContent-Length: 20\r\n", "ten bytes.").await;
    scene.until_open(Work::Upload, 1).await;
    scene.until_frozen().await;
    stream.write_all(b"ten bytes.").await.unwrap();
    assert!(read_until(&mut stream, "\"bytes\":20").await.starts_with("HTTP/1.1 200"));
    until(&scene.alice.instance, |status| status.fact == Fact::Awake).await;
}

#[tokio::test]
async fn an_open_stream_does_not_undo_the_owners_wish_to_sleep() {
    let scene = Scene::new().await;
    let mut stream = scene.flow("video/mp4").await;
    scene.platform.instances().sleep(&scene.alice.instance, Wish::Frozen, Cause::OwnerAsked).await.unwrap();
    until(&scene.alice.instance, |status| status.fact == Fact::Frozen).await;
    // The data in the buffers still arrives.
    scene.say("the last frame", &mut stream).await;
    scene.platform.look().await;
    assert_eq!(scene.fact(), Fact::Frozen);
    assert_eq!(scene.platform.host.calls(Verb::Thaw), 0);
    // The next visit wakes the instance, and the stream continues.
    let page = scene.platform.get(HOST, "/", &[("cookie", &scene.cookie)]).await;
    assert_eq!(page.status, 200);
    scene.say("the next frame", &mut stream).await;
}

#[tokio::test]
async fn a_silent_websocket_lets_the_instance_sleep_pings_do_not_wake_it_and_a_message_does() {
    let scene = Scene::new().await;
    let mut socket = scene.websocket().await;
    scene.until_frozen().await;
    socket.send(Message::Ping("still there?".into())).await.unwrap();
    // The stub programs answer while their fake container is frozen, too.
    assert!(socket.next().await.unwrap().unwrap().is_pong());
    scene.platform.look().await;
    assert_eq!(scene.fact(), Fact::Frozen);
    socket.send(Message::text("wake up")).await.unwrap();
    assert_eq!(until(&scene.alice.instance, |status| status.fact == Fact::Awake).await.cause, Cause::Visit);
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("wake up"));
}

#[tokio::test]
async fn a_websocket_is_closed_with_going_away_when_its_program_disappears() {
    let scene = Scene::new().await;
    let mut socket = scene.websocket().await;
    socket.send(Message::text("leave")).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = socket.next().await else { panic!("no close frame arrived") };
    assert_eq!(close.code, CloseCode::Away);
}

#[tokio::test]
async fn a_probe_wakes_no_sleeping_instance_and_counts_as_no_work_of_an_awake_one() {
    let scene = Scene::new().await;
    let before = scene.last();
    let probe = ("cookie", scene.cookie.as_str());
    assert_eq!(scene.platform.send("HEAD", HOST, "/", &[probe], "").await.status, 200);
    assert_eq!(scene.last(), before);
    scene.until_frozen().await;
    assert_eq!(scene.platform.send("HEAD", HOST, "/", &[probe], "").await.status, 503);
    scene.platform.look().await;
    assert_eq!(scene.fact(), Fact::Frozen);
    assert_eq!(scene.platform.host.calls(Verb::Thaw), 0);
}

#[tokio::test]
async fn a_job_lasts_until_it_is_ended_or_reaches_its_limit() {
    let scene = Scene::new().await;
    let declare = |name: &str, seconds: u32| {
        scene.inside("PUT", &format!("/jobs/{name}")).body(format!("{{\"for_seconds\": {seconds}}}")).send()
    };
    assert_eq!(declare("build", 3600).await.unwrap().status(), 200);
    scene.platform.wait(HALF_AN_HOUR).await;
    assert_eq!(scene.fact(), Fact::Awake);
    // A repeated declaration starts the limit anew.
    assert_eq!(declare("build", 3600).await.unwrap().status(), 200);
    scene.platform.wait(HALF_AN_HOUR * 2 - MINUTE).await;
    assert_eq!(scene.fact(), Fact::Awake);
    scene.platform.wait(FIVE_MINUTES).await;
    assert_eq!(scene.fact(), Fact::Awake, "idleness counts from its limit");
    scene.platform.wait(MINUTE).await;
    assert_eq!(scene.fact(), Fact::Frozen);

    let scene = Scene::new().await;
    let declare = |name: &str| scene.inside("PUT", &format!("/jobs/{name}")).body(r#"{"for_seconds": 3600}"#).send();
    assert_eq!(declare("build").await.unwrap().status(), 200);
    scene.platform.wait(HALF_AN_HOUR).await;
    let end = async |name| scene.inside("DELETE", &format!("/jobs/{name}")).send().await.unwrap().status().as_u16();
    assert_eq!((end("other").await, end("build").await, end("build").await), (404, 204, 404));
    scene.platform.wait(FIVE_MINUTES - MINUTE).await;
    assert_eq!(scene.fact(), Fact::Awake, "ending the job was the last work");
    scene.platform.wait(MINUTE).await;
    assert_eq!(scene.fact(), Fact::Frozen);
}

#[tokio::test]
async fn an_invalid_job_is_refused_with_a_sentence() {
    let scene = Scene::new().await;
    for (name, body, status, says) in [
        ("build", r#"{"for_seconds": 0}"#, 422, "from 1 to 21600"),
        ("build", r#"{"for_seconds": 21601}"#, 422, "Declare a longer job again"),
        ("build", r#"{"seconds": 5}"#, 422, "{\\\"for_seconds\\\": 600}"),
        ("build", "soon", 422, "{\\\"for_seconds\\\": 600}"),
        ("a%20b", r#"{"for_seconds": 5}"#, 422, "letters, digits"),
        (&"x".repeat(65), r#"{"for_seconds": 5}"#, 422, "1 to 64"),
    ] {
        let answer = scene.inside("PUT", &format!("/jobs/{name}")).body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{name} {body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{text} does not say {says}");
    }
    for n in 0..17 {
        let job = scene.inside("PUT", &format!("/jobs/job-{n}")).body(r#"{"for_seconds": 60}"#);
        assert_eq!(job.send().await.unwrap().status(), if n < 16 { 200 } else { 409 }, "{n}");
    }
    let stranger = scene.inside("PUT", "/jobs/build").bearer_auth("another").body(r#"{"for_seconds": 60}"#);
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    assert_eq!(scene.inside("POST", "/jobs/build").send().await.unwrap().status(), 405);
    assert_eq!(scene.platform.instances().jobs(&scene.alice.instance).len(), 16);
    let all: Value = scene.inside("GET", "/jobs").send().await.unwrap().json().await.unwrap();
    let items = all["items"].as_array().unwrap();
    assert_eq!((items.len(), &all["next"], &all["limit"]), (16, &json!(null), &json!(MAX_JOBS)));
    let now = scene.platform.clock.now().0;
    assert_eq!(items[0], json!({ "name": "job-0", "since_ms": now, "until_ms": now + 60_000 }));
}

#[tokio::test]
async fn a_job_survives_a_restart_of_the_platform_and_ends_with_its_program() {
    for database in berth_testing::databases().await {
        let mut scene = Scene::on(database).await;
        let declared = scene.inside("PUT", "/jobs/build").body(r#"{"for_seconds": 7200}"#).send().await.unwrap();
        assert_eq!(declared.status(), 200);
        scene.platform.restart().await;
        scene.alice.instance = scene.platform.instances().all().pop().unwrap();
        scene.platform.wait(HALF_AN_HOUR).await;
        assert_eq!(scene.fact(), Fact::Awake);
        let jobs = scene.platform.instances().jobs(&scene.alice.instance);
        assert_eq!((jobs.len(), jobs[0].name.as_str()), (1, "build"));

        scene.platform.host.crash(scene.alice.instance.id, ContainerExit { code: 1, out_of_memory: false });
        scene.platform.look().await;
        assert_eq!(
            scene.changes().await,
            [(Fact::Stopped, Cause::FoundSo)],
            "a job does not start a container that exited"
        );
        assert_eq!(scene.platform.host.calls(Verb::Start), 1);
        assert!(scene.platform.instances().jobs(&scene.alice.instance).is_empty());
        scene.platform.restart().await;
        let instance = scene.platform.instances().all().pop().unwrap();
        assert!(scene.platform.instances().jobs(&instance).is_empty(), "the job is not restored either");
        let seen = berth_containers::ContainerHost::inspect(&scene.platform.host, instance.id).await.unwrap();
        assert_eq!(seen.container.unwrap().state, ContainerState::Stopped);
    }
}

#[tokio::test]
async fn an_expired_job_does_not_block_the_deletion_of_its_account() {
    for database in berth_testing::databases().await {
        let mut scene = Scene::on(database).await;
        let declared = scene.inside("PUT", "/jobs/build").body(r#"{"for_seconds": 60}"#).send().await.unwrap();
        assert_eq!(declared.status(), 200);
        scene.platform.wait(MINUTE).await;
        // The job is in no memory any more, but its row is still in the database.
        scene.platform.restart().await;
        let (accounts, modules) = (scene.platform.app.accounts.clone(), scene.platform.app.modules.clone());
        accounts.schedule_deletion_of(&scene.alice.instance.handle, "operator").await.unwrap();
        scene.platform.look().await;
        assert_eq!(accounts.advance_deletions(&modules).await.unwrap(), 0);
        scene.platform.wait(HALF_AN_HOUR * 48 * 8).await;
        assert_eq!(accounts.advance_deletions(&modules).await.unwrap(), 1);
        assert!(scene.platform.instances().all().is_empty());
    }
}
