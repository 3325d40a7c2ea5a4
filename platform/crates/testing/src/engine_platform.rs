//! A fixture with the whole platform in this process on a real Engine, with a fault-injecting proxy before the
//! provisioner and one before the Engine. Only the clock is manual, so that idle hours pass at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use berth::accounts::SignUpStep;
use berth::app::App;
use berth::config::ContainerConfig;
use berth::instances::{Fact, Instance, Instances};
use berth_containers::docker::DockerHost;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_net::server::{self, PeerLimit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{config, somebody};
use crate::databases::{Database, sqlite};
use crate::fake_platform::{Answer, until};
use crate::fault_proxy::FaultProxy;
use crate::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use crate::provisioner::provisioner_binary;
use crate::tenant_image;

/// A call of the slowest verb, and as much again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a platform stands: what it makes there has this prefix, and goes with it.
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
    /// What the provisioner says to the Engine goes through here.
    pub to_engine: FaultProxy,
    /// What the platform says to the provisioner goes through here.
    pub to_provisioner: FaultProxy,
    pub ground: Ground,
    database: Database,
    /// The provisioner's process, and the platform's.
    provisioner: Option<Runtime>,
    process: Option<Runtime>,
    _alone: std::fs::File,
}

/// An account of this platform: its instance, and its cookies.
pub struct Person {
    pub handle: String,
    pub instance: Arc<Instance>,
    pub cookie: String,
    /// Of the app host.
    pub session: String,
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
        let provisioner = runtime();
        let mut containers = settings(&database, &ground).containers;
        containers.socket = behind.clone();
        provisioner.spawn(provision(containers, to_engine.socket.clone()));
        while !behind.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let clock = Clock::manual(Clock::system().now());
        let (app, address, process) = open(&database, &ground, clock.clone()).await;
        let (provisioner, process) = (Some(provisioner), Some(process));
        Self { app, clock, address, to_engine, to_provisioner, ground, database, provisioner, process, _alone: alone }
    }

    pub fn instances(&self) -> &Instances {
        &self.app.instances
    }

    /// The platform's process dies wherever it waits, and another takes its place.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for the process's threads to end, for as long as a story waits"
    )]
    pub async fn restart(&mut self) {
        let process = self.process.take().expect("a process runs");
        tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
        let (app, address, process) = open(&self.database, &self.ground, self.clock.clone()).await;
        (self.app, self.address, self.process) = (app, address, Some(process));
    }

    /// Signs up an account with a complete ceremony, hands its session off to its instance, and waits until that is
    /// awake.
    pub async fn settle_in(&self, handle: &str) -> Person {
        let (client, mut browser, accounts) = (somebody(), PasskeyBrowser::at_home(), &self.app.accounts);
        let token = accounts.sign_up_begin(handle, None, None, &client).await.unwrap();
        let token = token.reveal();
        let options = accounts.sign_up_passkey_challenge(token).await.unwrap();
        accounts.sign_up_passkey(token, browser.create(&options).await).await.unwrap();
        let SignUpStep::OneTimeCode { secret, .. } = accounts.sign_up(token).await.unwrap().step else {
            panic!("the one-time code comes after the passkey")
        };
        accounts.sign_up_code(token, &OneTimeCodeApp::with(&secret).code(&self.clock)).await.unwrap();
        let (signed_in, instance) = accounts.sign_up_finish(token, &client).await.unwrap();
        let session = signed_in.session.reveal().to_owned();
        let mut person = Person { handle: handle.into(), instance, cookie: String::new(), session };
        self.hand_off(&mut person).await;
        until(&person.instance, |status| status.fact == Fact::Awake).await;
        self.instances().settled().await;
        person
    }

    /// A fresh cookie of their instance's host, and the instance as the platform's present process knows it.
    pub async fn hand_off(&self, person: &mut Person) {
        use base64::Engine as _;
        use sha2::Digest as _;
        let (accounts, host) = (&self.app.accounts, format!("{}.example.com", person.handle));
        let session = accounts.authenticate("app.example.com", &person.session).await.unwrap().unwrap();
        let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest("verifier"));
        let code = accounts.hand_off(&session, &host, "state", &challenge).await.unwrap();
        let token = accounts.hand_off_redeem(&host, code.reveal(), "state", "verifier", &somebody()).await;
        person.cookie = format!("__Host-berth={}", token.unwrap().unwrap().reveal());
        person.instance = self.app.instances.by_account(session.account).unwrap();
    }

    /// Time passes, and the loop has looked.
    pub async fn wait(&self, time: Duration) {
        self.clock.advance(time);
        self.instances().round().await;
        self.instances().settled().await;
    }

    /// A request with `person`'s cookie to its instance, through the edge.
    pub async fn visit(&self, person: &Person, path: &str) -> Answer {
        self.get(&format!("{}.example.com", person.handle), path, &person.cookie).await
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
        for runtime in [self.process.take(), self.provisioner.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
        self.ground.sweep();
    }
}

async fn open(database: &Database, ground: &Ground, clock: Clock) -> (App, SocketAddr, Runtime) {
    let (config, process) = (settings(database, ground), runtime());
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let started = process.spawn(async move {
        let app = App::open(config, clock, host).await.unwrap();
        let ready = async {
            while app.host.ensure_networks().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the provisioner makes the bridges");
        app.instances.begin().await.unwrap();
        let end = CancellationToken::new();
        tokio::spawn(app.instances.clone().run(end.clone()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(listener, berth::serve::public_router(app.clone()), PeerLimit::Unlimited, end));
        (app, address)
    });
    let (app, address) = started.await.unwrap();
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
            // The provisioner counts by the machine's clock.
            ("BERTH_DELETE_AFTER_SECONDS", "1"),
        ],
    )
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
