//! The fixtures for tests of container hosts: the fake, a real Engine with a tiny image, and the provisioner's socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use berth::config::{ContainerConfig, ContainerRuntime, DiskLimit, InstanceSize};
use berth::db::InstanceId;
use berth_containers::docker::DockerHost;
use berth_containers::fake::FakeHost;
use berth_containers::remote::RemoteHost;
use berth_containers::{ContainerHost, ContainerSpec, ContainerState, HostError, ObservedInstance, Slot};
use berth_ground::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::provisioner::provisioner_binary;
use crate::tenant_image::forget_firewall;
use crate::wait::{eventually, eventually_some};

/// Prefix of everything these tests make on the Engine.
pub const NETWORK: &str = "ctest";
/// Carries a `/home/berth` of uid 10001, as a good image does.
pub const WITH_HOME: &str = "ctest-home:1";
/// Carries one program and nothing else.
pub const BARE: &str = "ctest-bare:1";
/// Allowed, but not on the host.
pub const ABSENT: &str = "ctest-absent:1";

/// A host under test, with what keeps it alive.
pub struct ContainerHosts {
    pub host: Arc<dyn ContainerHost>,
    /// The host's own, standing still unless it is moved.
    pub clock: Clock,
    pub dir: Arc<tempfile::TempDir>,
    engine: Option<Arc<Engine>>,
}

impl ContainerHosts {
    pub async fn fake() -> Self {
        let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), clock());
        let fake = FakeHost::new(config(dir.path()), clock.clone());
        fake.forget_image(ABSENT);
        Self { host: Arc::new(fake), clock, dir, engine: None }
    }

    pub async fn engine() -> Self {
        Self::engine_with(|_| {}).await
    }

    /// The Engine with settings of the test's own.
    pub async fn engine_with(change: impl FnOnce(&mut ContainerConfig)) -> Self {
        let engine = Engine::shared().await;
        let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), clock());
        let host = Arc::new(docker_with(dir.path(), &clock, change));
        Self { host, clock, dir, engine: Some(engine) }
    }

    /// Another provisioner on the same data, as after an update with other settings.
    pub fn again_with(&self, change: impl FnOnce(&mut ContainerConfig)) -> Self {
        let (dir, clock, engine) = (Arc::clone(&self.dir), self.clock.clone(), self.engine.clone());
        Self { host: Arc::new(docker_with(dir.path(), &clock, change)), clock, dir, engine }
    }

    /// The Engine behind a provisioner behind its socket.
    pub async fn remote() -> Self {
        let Self { host, clock, dir, engine } = Self::engine().await;
        let remote = serve(host, config(dir.path())).await;
        Self { host: Arc::new(remote), clock, dir, engine }
    }

    /// A spec that no other test uses.
    pub fn spec(&self) -> ContainerSpec {
        static SLOT: AtomicU32 = AtomicU32::new(0);
        ContainerSpec {
            instance: InstanceId(Clock::system().uuid()),
            slot: Slot(SLOT.fetch_add(1, Ordering::SeqCst)),
            image: WITH_HOME.into(),
            image_id: None,
            size: "standard".into(),
            handle: "alice".into(),
            url: "https://alice.localhost".into(),
            token: berth_ground::secrets::Token::new(&Clock::system()).reveal().to_owned(),
        }
    }

    /// A container that runs.
    pub async fn running(&self) -> ContainerSpec {
        let spec = self.spec();
        self.run(&spec).await;
        spec
    }

    pub async fn run(&self, spec: &ContainerSpec) {
        self.host.ensure_volume(spec.instance, &spec.size).await.unwrap();
        self.host.create(spec).await.unwrap();
        self.host.start(spec.instance).await.unwrap();
    }

    pub async fn seen(&self, spec: &ContainerSpec) -> ObservedInstance {
        self.host.inspect(spec.instance).await.unwrap()
    }

    pub async fn state(&self, spec: &ContainerSpec) -> Option<ContainerState> {
        self.seen(spec).await.container.map(|container| container.state)
    }
}

pub fn config(dir: &Path) -> ContainerConfig {
    ContainerConfig {
        data_dir: dir.to_owned(),
        volumes_dir: dir.join("volumes"),
        socket: dir.join("provisioner.sock"),
        network: NETWORK.into(),
        subnet: Ipv4Addr::new(10, 97, 0, 0),
        bridges: 1,
        images: vec![WITH_HOME.into(), BARE.into(), ABSENT.into()],
        image_pins: BTreeMap::new(),
        runtime: ContainerRuntime::Runc,
        sizes: vec![size()],
        disk_limit: DiskLimit::None,
        delete_after: Duration::from_secs(7 * 24 * 3600),
        quota_port: 8702,
        instance_port: 8080,
    }
}

fn size() -> InstanceSize {
    InstanceSize {
        name: "standard".into(),
        memory_mib: 64,
        swap_mib: 64,
        nano_cpus: 500_000_000,
        pids: 64,
        disk_mib: 64,
        freeze_after: Duration::from_secs(300),
        stop_after: Duration::from_secs(1800),
        remove_after: Duration::from_secs(86400),
    }
}

/// The Engine, with the program under test as the one that hands memory back.
pub fn docker(config: ContainerConfig) -> DockerHost {
    DockerHost::connect_with(config, Clock::system(), "/var/run/docker.sock".into(), provisioner_binary())
}

fn docker_with(dir: &Path, clock: &Clock, change: impl FnOnce(&mut ContainerConfig)) -> DockerHost {
    let mut config = config(dir);
    change(&mut config);
    let reclaimer = provisioner_binary();
    DockerHost::connect_with(config, clock.clone(), "/var/run/docker.sock".into(), reclaimer)
}

/// It begins in the present, because the Engine is asked for what happened since then.
fn clock() -> Clock {
    Clock::manual(Clock::system().now())
}

/// Puts `host` behind a provisioner and waits until that answers.
pub async fn serve(host: Arc<dyn ContainerHost>, config: ContainerConfig) -> RemoteHost {
    let socket = config.socket.clone();
    tokio::spawn(async move { berth_provisioner::serve_host(host, config, std::future::pending()).await.unwrap() });
    eventually("the provisioner listens", async || socket.exists()).await;
    RemoteHost::new(socket)
}

/// Asks the program inside a container, once it listens.
pub async fn ask(spec: &ContainerSpec, path: &str) -> String {
    ask_at(address(spec), path).await
}

/// Asks the program at an address, once it listens.
pub async fn ask_at(address: SocketAddr, path: &str) -> String {
    let connect = async || TcpStream::connect(address).await.ok();
    let mut stream = eventually_some("the host reaches the container", connect).await;
    stream.write_all(format!("GET /{path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.expect("it answers").unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

pub fn address(spec: &ContainerSpec) -> SocketAddr {
    (spec.slot.address(Ipv4Addr::new(10, 97, 0, 0)), 8080).into()
}

/// The name of the container on the Engine.
pub fn name(spec: &ContainerSpec) -> String {
    format!("{NETWORK}-{}", spec.instance)
}

/// What `docker` says; a sentence when it is not there.
pub fn docker_cli(arguments: &[&str]) -> String {
    let done = Command::new("docker")
        .args(arguments)
        .output()
        .expect("these tests need the docker command and an Engine on /var/run/docker.sock");
    assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The real Engine with the test images on it, shared by all tests that run at the same time. When the last of them is
/// done it removes everything with the tests' prefix. A lock keeps two runs of the tests on one machine apart.
pub struct Engine {
    _lock: File,
}

impl Engine {
    async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(engine) = shared.upgrade() {
            return engine;
        }
        let lock = File::create(std::env::temp_dir().join("berth-containers-test.lock")).unwrap();
        lock.lock().unwrap();
        let engine = Arc::new(Self { _lock: lock });
        docker_cli(&["version"]);
        sweep();
        make_images();
        // Once for all tests: of two makings at once, one is told that the subnet is taken.
        let dir = tempfile::tempdir().unwrap();
        docker(config(dir.path())).ensure_networks().await.unwrap();
        *shared = Arc::downgrade(&engine);
        engine
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        sweep();
    }
}

/// An Engine of a whole platform, on a network of its own.
pub async fn engine_for(config: ContainerConfig, clock: &Clock) -> (DockerHost, Arc<Engine>) {
    let engine = Engine::shared().await;
    let reclaimer = provisioner_binary();
    let host = DockerHost::connect_with(config, clock.clone(), "/var/run/docker.sock".into(), reclaimer);
    (host, engine)
}

/// Removes the leftovers of these tests, or of a killed run, from the Engine. Missing objects are no error.
fn sweep() {
    sweep_network(NETWORK);
    take_away(&["images", "-q", "ctest-*"], &["rmi", "-f"]);
}

/// Containers, volumes, bridges and firewall of the installation with this prefix.
pub fn sweep_network(network: &str) {
    let label = format!("label=berth.installation={network}");
    for (list, remove) in [
        (["ps", "-aq", "--filter", &label].as_slice(), ["rm", "-fv"].as_slice()),
        (&["volume", "ls", "-q", "--filter", &label], &["volume", "rm", "-f"]),
        (&["network", "ls", "-q", "--filter", &label], &["network", "rm"]),
    ] {
        take_away(list, remove);
    }
    forget_firewall(network);
}

fn take_away(list: &[&str], remove: &[&str]) {
    let Ok(there) = Command::new("docker").args(list).output() else { return };
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    let mut things: Vec<&str> = there.split_whitespace().collect();
    things.dedup();
    if !things.is_empty() {
        let _ = Command::new("docker").args(remove).args(&things).output();
    }
}

/// Compiles the tenant and makes two images of it, from nothing and without a network.
fn make_images() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("home/berth")).unwrap();
    compile_tenant(&root.join("tenant"));
    for (image, content) in [(WITH_HOME, vec!["tenant", "home"]), (BARE, vec!["tenant"])] {
        let archive = dir.path().join("image.tar");
        let mut arguments = vec!["--owner=10001", "--group=10001", "-C", root.to_str().unwrap(), "-cf"];
        arguments.push(archive.to_str().unwrap());
        arguments.extend(content);
        command("tar", &arguments, &[]);
        docker_cli(&["import", "--change", "CMD [\"/tenant\"]", archive.to_str().unwrap(), image]);
    }
}

/// The program inside the test images, which needs nothing around it.
pub fn compile_tenant(program: &Path) {
    let source = crate::fixture("tenant.rs");
    let flags = ["--edition", "2024", "-C", "target-feature=+crt-static", "-o"];
    command("rustc", &flags, &[&program.to_owned(), &source]);
}

fn command(program: &str, arguments: &[&str], paths: &[&PathBuf]) {
    let done = Command::new(program).args(arguments).args(paths).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Whether a refusal says `word`.
pub fn refuses_with<T: std::fmt::Debug>(result: Result<T, HostError>, word: &str) {
    match result {
        Err(HostError::Refused(sentence)) => assert!(sentence.contains(word), "{sentence:?} does not say {word:?}"),
        other => panic!("{other:?} is not a refusal that says {word:?}"),
    }
}
