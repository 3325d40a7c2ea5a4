//! The provisioner's socket: requests that it refuses, who may connect, and restarts on either side.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use berth_containers::fake::{FakeHost, HoldPoint, Verb};
use berth_containers::protocol::{ProvisionerAnswer, ProvisionerReply, VERSION};
use berth_containers::remote::RemoteHost;
use berth_containers::{ContainerHost as _, HostError};
use berth_ground::clock::Clock;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use berth_testing::container_hosts::{ContainerHosts, WITH_HOME, config, serve};
use berth_testing::wait::eventually;

const ID: &str = "6f1a3c1e-0d6b-4b7e-9c55-2f6d0f4f8a11";

#[tokio::test]
async fn hostile_requests_are_refused_with_a_sentence_and_reach_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(config(dir.path()), Clock::system());
    let _remote = serve(Arc::new(fake.clone()), config(dir.path())).await;
    let create = |field: &str, value: serde_json::Value| {
        let mut spec = json!({
            "instance": ID, "slot": 1, "image": WITH_HOME, "image_id": null, "size": "standard", "handle": "alice",
            "url": "https://alice.localhost", "token": "a-token"
        });
        spec[field] = value;
        json!({"v": VERSION, "call": {"create": {"spec": spec}}}).to_string()
    };
    let call = |call: serde_json::Value| json!({"v": VERSION, "call": call}).to_string();
    let hostile = [
        ("no JSON", "hello".to_owned()),
        ("a list", "[]".to_owned()),
        ("nothing", "{}".to_owned()),
        ("control characters", "\u{1}\u{2}".to_owned()),
        ("a line without an end in sight", "x".repeat(100_000)),
        ("another version", json!({"v": VERSION + 1, "call": {"list": {}}}).to_string()),
        ("a negative version", json!({"v": -1, "call": {"list": {}}}).to_string()),
        ("no version", json!({"call": {"list": {}}}).to_string()),
        ("a word beside the call", json!({"v": VERSION, "call": {"list": {}}, "as": "root"}).to_string()),
        ("two calls in one", call(json!([{"start": {"instance": ID}}, {"stop": {"instance": ID}}]))),
        ("a command inside", call(json!({"exec": {"instance": ID, "command": ["sh"]}}))),
        ("an image built from a text", call(json!({"build": {"dockerfile": "FROM scratch"}}))),
        ("an image pulled", call(json!({"pull": {"image": "debian:latest"}}))),
        ("an image made of a container", call(json!({"commit": {"instance": ID}}))),
        ("files put into a container", call(json!({"upload": {"instance": ID, "path": "/"}}))),
        ("a volume removed by another name", call(json!({"remove_volume": {"instance": ID}}))),
        ("a plugin", call(json!({"plugin": {"name": "x"}}))),
        ("a swarm", call(json!({"swarm_init": {}}))),
        ("a list of everybody's", call(json!({"list": {"all": true}}))),
        ("a path for an instance", call(json!({"start": {"instance": "../../etc"}}))),
        ("a pattern for an instance", call(json!({"start": {"instance": "*"}}))),
        ("a container's name for an instance", call(json!({"stop": {"instance": "berth-provisioner"}}))),
        ("a volume of a size nobody set up", call(json!({"ensure_volume": {"instance": ID, "size": "../huge"}}))),
        ("privileged", create("privileged", json!(true))),
        ("the host's root", create("binds", json!(["/:/host"]))),
        ("the Docker socket", create("mounts", json!([{"source": "/var/run/docker.sock", "target": "/s"}]))),
        ("a device", create("devices", json!(["/dev/sda"]))),
        ("a capability", create("cap_add", json!(["SYS_ADMIN"]))),
        ("the host's network", create("network_mode", json!("host"))),
        ("the host's processes", create("pid_mode", json!("host"))),
        ("the host's users", create("userns_mode", json!("host"))),
        ("no seccomp", create("security_opt", json!(["seccomp=unconfined"]))),
        ("a port of the host's", create("port_bindings", json!({"22/tcp": []}))),
        ("root", create("user", json!("0:0"))),
        ("another runtime", create("runtime", json!("runc"))),
        ("more memory", create("memory_mib", json!(1_000_000))),
        ("another program", create("command", json!(["/bin/sh"]))),
        ("an image that is not allowed", create("image", json!("debian:latest"))),
        ("an allowed image by a digest", create("image", json!(format!("{WITH_HOME}@sha256:00")))),
        ("no image", create("image", json!(""))),
        ("an image's id that is none", create("image_id", json!("debian:latest"))),
        ("a size nobody set up", create("size", json!("huge"))),
        ("a slot past the last bridge", create("slot", json!(500))),
        ("a slot below the first", create("slot", json!(-1))),
        ("a slot that overflows", create("slot", json!(u64::MAX))),
        ("capitals in a handle", create("handle", json!("Alice"))),
        ("too short a handle", create("handle", json!("a"))),
        ("a variable in a handle", create("handle", json!("alice\nHOME=/"))),
        ("an endless handle", create("handle", json!("a".repeat(20_000)))),
        ("no token", create("token", json!(""))),
        ("a token with a space", create("token", json!("a token"))),
        ("a variable in a token", create("token", json!("token\nPATH=/evil"))),
        ("too long a token", create("token", json!("t".repeat(129)))),
        ("an address without TLS", create("url", json!("http://alice.localhost"))),
        ("an address with a nothing in it", create("url", json!("https://alice.localhost/\u{0}"))),
    ];
    assert!(hostile.len() >= 30);
    for (name, request) in &hostile {
        let answer = say(dir.path(), request.as_bytes()).await;
        let Err(HostError::Refused(sentence)) = answer else { panic!("{name} was answered with {answer:?}") };
        assert!(sentence.contains(' ') && !sentence.contains("/evil"), "{name}: {sentence}");
    }
    let Err(HostError::Refused(_)) = say(dir.path(), b"\xff\xfe").await else { panic!("bytes were accepted") };
    for verb in [Verb::EnsureVolume, Verb::Create, Verb::Start, Verb::Stop, Verb::RemoveContainer, Verb::List] {
        assert_eq!(fake.calls(verb), 0, "{verb:?}");
    }
    // An honest request still goes through, so the refusals above were not of everything.
    assert_eq!(say(dir.path(), create("slot", json!(1)).as_bytes()).await, Ok(ProvisionerReply::Done));
    assert_eq!(fake.calls(Verb::Create), 1);
}

#[tokio::test]
async fn silent_connections_do_not_block_others() {
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
    eventually("there is a place again", async || remote.list().await.is_ok()).await;
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
    let first = tokio::spawn(berth_provisioner::serve_host(host.clone(), config(dir.path()), async move {
        let _ = stopped.await;
    }));
    eventually("it answers", async || remote.list().await.is_ok()).await;
    let second = berth_provisioner::serve_host(host, config(dir.path()), std::future::pending()).await;
    assert!(second.unwrap_err().to_string().contains("another provisioner"));
    assert!(remote.list().await.is_ok());
    stop.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert!(!dir.path().join("provisioner.sock").exists());
    assert_eq!(remote.list().await, Err(HostError::Unreachable));
}

#[tokio::test]
async fn the_platform_outlives_the_provisioner() {
    let bench = ContainerHosts::fake().await;
    let config = config(bench.dir.path());
    let remote = RemoteHost::new(&config.socket);
    assert_eq!(remote.list().await, Err(HostError::Unreachable));
    for _ in 0..2 {
        let server =
            tokio::spawn(berth_provisioner::serve_host(bench.host.clone(), config.clone(), std::future::pending()));
        eventually("it answers", async || remote.list().await.is_ok()).await;
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
    let spec = ContainerHosts::fake().await.spec();
    remote.create(&spec).await.unwrap();
    fake.hold(Verb::Start, HoldPoint::BeforeEffect);
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
async fn say(dir: &std::path::Path, line: &[u8]) -> ProvisionerAnswer {
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
