//! The provisioner's door: what it refuses, and what becomes of its socket.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use berth::clock::Clock;
use berth::containers::fake::{FakeHost, Held, Verb};
use berth::containers::protocol::Answer;
use berth::containers::remote::RemoteHost;
use berth::containers::{ContainerHost as _, HostError};
use berth::provisioner;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::bench::{Bench, WITH_HOME, config, serve, until};

const ID: &str = "6f1a3c1e-0d6b-4b7e-9c55-2f6d0f4f8a11";

#[tokio::test]
async fn hostile_requests_are_refused_with_a_sentence_and_reach_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(config(dir.path()), Clock::system());
    let _remote = serve(Arc::new(fake.clone()), config(dir.path())).await;
    let spec = |field: &str, value: serde_json::Value| {
        let mut spec = json!({
            "instance": ID, "slot": 1, "image": WITH_HOME, "size": "standard", "handle": "alice",
            "url": "https://alice.localhost", "token": "a-token"
        });
        spec[field] = value;
        json!({"v": 2, "call": {"create": {"spec": spec}}}).to_string()
    };
    let hostile = [
        "hello".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "\u{1}\u{2}".to_owned(),
        json!({"v": 3, "call": {"list": {}}}).to_string(),
        json!({"v": -1, "call": {"list": {}}}).to_string(),
        json!({"call": {"list": {}}}).to_string(),
        json!({"v": 2, "call": {"exec": {"instance": ID, "command": ["sh"]}}}).to_string(),
        json!({"v": 2, "call": {"list": {"all": true}}}).to_string(),
        json!({"v": 2, "call": {"list": {}}, "as": "root"}).to_string(),
        json!({"v": 2, "call": {"start": {"instance": "../../etc"}}}).to_string(),
        json!({"v": 2, "call": {"start": {"instance": "*"}}}).to_string(),
        json!({"v": 2, "call": {"remove_volume": {"instance": ID}}}).to_string(),
        json!({"v": 2, "call": [{"start": {"instance": ID}}, {"stop": {"instance": ID}}]}).to_string(),
        spec("privileged", json!(true)),
        spec("binds", json!(["/:/host"])),
        spec("image", json!("debian:latest")),
        spec("image", json!(format!("{WITH_HOME}@sha256:00"))),
        spec("image", json!("")),
        spec("size", json!("huge")),
        spec("image_id", json!("latest")),
        spec("slot", json!(500)),
        spec("slot", json!(-1)),
        spec("slot", json!(u64::MAX)),
        spec("handle", json!("Alice")),
        spec("handle", json!("a")),
        spec("handle", json!("alice\nHOME=/")),
        spec("token", json!("")),
        spec("token", json!("a token")),
        spec("token", json!("token\nPATH=/evil")),
        spec("token", json!("t".repeat(129))),
        spec("url", json!("http://alice.localhost")),
        spec("url", json!("https://alice.localhost/\u{0}")),
        spec("handle", json!("a".repeat(20_000))),
        "x".repeat(100_000),
    ];
    for request in &hostile {
        let answer = say(dir.path(), request.as_bytes()).await;
        let shown: String = request.chars().take(80).collect();
        let Err(HostError::Refused(sentence)) = answer else { panic!("{shown} was answered with {answer:?}") };
        assert!(sentence.contains(' ') && !sentence.contains("/evil"), "{shown}: {sentence}");
    }
    let Err(HostError::Refused(_)) = say(dir.path(), b"\xff\xfe").await else { panic!("bytes were accepted") };
    for verb in [Verb::Create, Verb::Start, Verb::Stop, Verb::List] {
        assert_eq!(fake.calls(verb), 0, "{verb:?}");
    }
    // An honest request still goes through, so the refusals above were not of everything.
    assert!(say(dir.path(), spec("slot", json!(1)).as_bytes()).await.is_ok());
    assert_eq!(fake.calls(Verb::Create), 1);
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let remote = serve(Arc::new(FakeHost::new(config(dir.path()), Clock::system())), config(dir.path())).await;
    let silent: Vec<UnixStream> = futures_util::stream::iter(0..80)
        .then(|_| UnixStream::connect(dir.path().join("provisioner.sock")))
        .filter_map(|stream| std::future::ready(stream.ok()))
        .collect()
        .await;
    let full = remote.list().await;
    assert!(matches!(full, Err(HostError::Failed(_) | HostError::Unreachable)), "{full:?}");
    drop(silent);
    until("there is a place again", || async { remote.list().await.is_ok() }).await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group() {
    let dir = tempfile::tempdir().unwrap();
    let _remote = serve(Arc::new(FakeHost::new(config(dir.path()), Clock::system())), config(dir.path())).await;
    let mode = std::fs::metadata(dir.path().join("provisioner.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn a_second_provisioner_does_not_start_and_a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let host = Arc::new(FakeHost::new(config(dir.path()), Clock::system()));
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("provisioner.sock")).unwrap());
    let remote = RemoteHost::new(dir.path().join("provisioner.sock"));
    assert_eq!(remote.list().await, Err(HostError::Unreachable));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let first = tokio::spawn(provisioner::serve_host(host.clone(), config(dir.path()), async move {
        let _ = stopped.await;
    }));
    until("it answers", || async { remote.list().await.is_ok() }).await;
    let second = provisioner::serve_host(host, config(dir.path()), std::future::pending()).await;
    assert!(second.unwrap_err().to_string().contains("another provisioner"));
    assert!(remote.list().await.is_ok());
    stop.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert!(!dir.path().join("provisioner.sock").exists());
    assert_eq!(remote.list().await, Err(HostError::Unreachable));
}

#[tokio::test]
async fn the_platform_outlives_the_provisioner() {
    let bench = Bench::fake().await;
    let config = config(bench.dir.path());
    let remote = RemoteHost::new(&config.socket);
    assert_eq!(remote.list().await, Err(HostError::Unreachable));
    for _ in 0..2 {
        let server = tokio::spawn(provisioner::serve_host(bench.host.clone(), config.clone(), std::future::pending()));
        until("it answers", || async { remote.list().await.is_ok() }).await;
        server.abort();
        let _ = server.await;
        assert_eq!(remote.list().await, Err(HostError::Unreachable));
    }
}

#[tokio::test]
async fn events_end_when_the_engine_goes() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(config(dir.path()), Clock::system());
    let remote = serve(Arc::new(fake.clone()), config(dir.path())).await;
    let mut events = remote.events().await.unwrap();
    let id = ID.parse().unwrap();
    fake.emit(id);
    assert_eq!(events.next().await, Some(id));
    fake.cut_off();
    assert_eq!(timeout(Duration::from_secs(5), events.next()).await, Ok(None));
    assert_eq!(remote.events().await.err(), Some(HostError::Unreachable));
}

#[tokio::test]
async fn a_long_call_delays_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(config(dir.path()), Clock::system());
    let remote = Arc::new(serve(Arc::new(fake.clone()), config(dir.path())).await);
    let spec = Bench::fake().await.spec();
    remote.create(&spec).await.unwrap();
    fake.hold(Verb::Start, Held::BeforeItsEffect);
    let starting = tokio::spawn({
        let (remote, instance) = (remote.clone(), spec.instance);
        async move { remote.start(instance).await }
    });
    fake.until_held(Verb::Start).await;
    assert!(remote.inspect(spec.instance).await.is_ok());
    fake.let_one_pass(Verb::Start);
    assert_eq!(starting.await.unwrap(), Ok(()));
}

/// Sends one line and reads the answer.
async fn say(dir: &std::path::Path, line: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(dir.join("provisioner.sock")).await.unwrap();
    // It may be refused, and the connection ended, before all of it is written.
    let _ = stream.write_all(&[line, b"\n"].concat()).await;
    let mut answer = String::new();
    let mut stream = BufReader::new(stream);
    timeout(Duration::from_secs(5), stream.read_line(&mut answer))
        .await
        .expect("an answer within five seconds")
        .unwrap();
    serde_json::from_str(&answer).unwrap()
}
