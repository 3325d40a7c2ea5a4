//! A fixture with the whole platform in this process on a real Engine, with a fault-injecting proxy before the
//! provisioner and one before the Engine. Only the clock is manual, so that idle hours pass at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use berth::app::App;
use berth::config::ContainerConfig;
use berth::instances::{Fact, Instances};
use berth_containers::ContainerHost as _;
use berth_containers::docker::DockerHost;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::config;
use crate::databases::{Database, sqlite};
use crate::fake_platform::{Answer, until};
use crate::fault_proxy::FaultProxy;
use crate::person::Person;
use crate::process::{RuntimeProcess, serve, start_app};
use crate::provisioner::provisioner_binary;
use crate::tenant_image;
use crate::wait::{Wait, eventually};

/// A call of the slowest verb, and as much again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Engine and the network prefix that an [`EnginePlatform`] uses; everything with the prefix is removed with it.
#[derive(Clone)]
pub struct Ground {
    pub engine: PathBuf,
    pub network: &'static str,
    pub subnet: &'static str,
}

pub struct EnginePlatform {
    pub app: App,
    pub clock: Clock,
    pub address: SocketAddr,
    /// The proxy between the provisioner and the Engine.
    pub to_engine: FaultProxy,
    /// The proxy between the platform and the provisioner.
    pub to_provisioner: FaultProxy,
    pub ground: Ground,
    database: Database,
    /// The provisioner's process, and the platform's.
    _provisioner: RuntimeProcess,
    process: RuntimeProcess,
    _alone: std::fs::File,
}

impl Ground {
    pub fn image(&self) -> String {
        format!("{}-tenant:1", self.network)
    }

    pub fn docker(&self, words: &[&str]) -> String {
        tenant_image::docker(&self.engine, words)
    }

    pub fn sweep(&self) {
        tenant_image::sweep(&self.engine, self.network, &self.image());
    }

    /// Names of the containers that are there, running or not.
    pub fn containers(&self) -> Vec<String> {
        let label = format!("label=berth.installation={}", self.network);
        let names = self.docker(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]);
        names.lines().map(str::to_owned).collect()
    }

    /// Names of the volumes that are there.
    pub fn volumes(&self) -> Vec<String> {
        let label = format!("label=berth.installation={}", self.network);
        self.docker(&["volume", "ls", "-q", "--filter", &label]).lines().map(str::to_owned).collect()
    }

    /// The name of an instance's container.
    pub fn name(&self, person: &Person) -> String {
        format!("{}-{}", self.network, person.instance.id)
    }
}

impl EnginePlatform {
    /// On the Engine of this machine. A lock keeps two runs of the tests apart.
    pub async fn on(ground: Ground) -> Self {
        let lock = std::env::temp_dir().join(format!("berth-{}-test.lock", ground.network));
        let alone = std::fs::File::create(lock).unwrap();
        alone.lock().unwrap();
        ground.sweep();
        tenant_image::make_image(&ground.image(), &ground.engine);
        let database = sqlite().await;
        let folder = Path::new(database.dir()).to_owned();
        std::fs::create_dir_all(folder.join("run")).unwrap();
        let (to_engine, behind) = (folder.join("engine.sock"), folder.join("behind.sock"));
        let to_engine = FaultProxy::the_engine(&to_engine, &ground.engine);
        let to_provisioner = FaultProxy::the_provisioner(&folder.join("run/provisioner.sock"), &behind);
        let provisioner = RuntimeProcess::with_threads(2);
        let mut containers = settings(&database, &ground).containers;
        containers.socket = behind.clone();
        provisioner.spawn(provision(containers, to_engine.socket.clone()));
        eventually("the provisioner listens", async || behind.exists()).await;
        let clock = Clock::manual(Clock::system().now());
        let (app, address, process) = open(&database, &ground, clock.clone()).await;
        Self {
            app,
            clock,
            address,
            to_engine,
            to_provisioner,
            ground,
            database,
            _provisioner: provisioner,
            process,
            _alone: alone,
        }
    }

    pub fn instances(&self) -> &Instances {
        &self.app.instances
    }

    /// The platform's process dies wherever it waits, and another takes its place.
    pub async fn restart(&mut self) {
        self.process.kill().await;
        let (app, address, process) = open(&self.database, &self.ground, self.clock.clone()).await;
        (self.app, self.address, self.process) = (app, address, process);
    }

    /// Signs up an account with a complete ceremony, hands its session off to its instance, and waits until that is
    /// awake.
    pub async fn settle_in(&self, handle: &str) -> Person {
        let mut person = Person::sign_up(&self.app, handle).await;
        person.hand_off(&self.app).await;
        until(&person.instance, |status| status.fact == Fact::Awake).await;
        self.instances().settled().await;
        person
    }

    /// Advances the clock by `time`, and runs a round of the reconciler.
    pub async fn wait(&self, time: Duration) {
        self.clock.advance(time);
        self.instances().round().await;
        self.instances().settled().await;
    }

    /// A request with `person`'s cookie to its instance, through the edge.
    pub async fn visit(&self, person: &Person, path: &str) -> Answer {
        self.get(&person.host(), path, person.cookie()).await
    }

    /// The body of the answer from the program in `person`'s instance.
    pub async fn ask(&self, person: &Person, path: &str) -> String {
        let answer = self.visit(person, path).await;
        assert_eq!(answer.status, 200, "{} of {}: {}", path, person.handle, answer.text());
        answer.text()
    }

    pub async fn get(&self, host: &str, path: &str, cookie: &str) -> Answer {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let request = Request::get(format!("http://{}{path}", self.address)).header(header::HOST, host);
        let request = request.header(header::COOKIE, cookie).body(Body::empty()).unwrap();
        let answered = tokio::time::timeout(PATIENCE, async {
            let (head, body) = client.request(request).await.unwrap().into_parts();
            (head, axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap())
        });
        let (head, body) = answered.await.expect("an answer within a minute");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }
}

impl Drop for EnginePlatform {
    fn drop(&mut self) {
        self.ground.sweep();
    }
}

async fn open(database: &Database, ground: &Ground, clock: Clock) -> (App, SocketAddr, RuntimeProcess) {
    let (config, process) = (settings(database, ground), RuntimeProcess::with_threads(2));
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let ready = async || host.ensure_networks().await.is_ok();
    Wait::within(PATIENCE).every(Duration::from_millis(50)).until("the provisioner makes the bridges", ready).await;
    let started = process.run(async move {
        let end = CancellationToken::new();
        let app = start_app(config, clock, host, &end).await;
        let address = serve(berth::serve::public_router(app.clone()), &end).await;
        (app, address)
    });
    let (app, address) = started.await;
    (app, address, process)
}

async fn provision(config: ContainerConfig, engine: PathBuf) {
    let host = DockerHost::connect_with(config.clone(), Clock::system(), engine, provisioner_binary());
    berth_provisioner::serve_host(Arc::new(host), config, std::future::pending()).await.unwrap();
}

fn settings(database: &Database, ground: &Ground) -> berth::config::Config {
    let image = ground.image();
    config(
        database,
        &[
            ("BERTH_NETWORK", ground.network),
            ("BERTH_SUBNET", ground.subnet),
            ("BERTH_IMAGES", &image),
            ("BERTH_MEMORY_MIB", "64"),
            ("BERTH_SWAP_MIB", "64"),
            // The provisioner uses the system clock.
            ("BERTH_DELETE_AFTER_SECONDS", "1"),
        ],
    )
}
