//! A fixture with the whole platform behind real listeners, on the in-memory fake container host. One stub server
//! answers for the program in every container, because each instance has its own loopback address.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use berth::accounts::{Accounts, NewSession, SignUpStep};
use berth::app::App;
use berth::config::ContainerConfig;
use berth::edge::WebhookDispatcher;
use berth::instances::{Cause, Fact, Instance, InstanceStatus, Instances};
use berth_containers::ContainerHost;
use berth_containers::fake::FakeHost;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_net::server::{self, Lanes, PeerLimit, RequestHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{START, config, databases, somebody};
use crate::databases::Database;
use crate::fault_proxy::FaultProxy;
use crate::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use crate::stub_program::{self, Said};
use crate::webhook_receiver::WebhookReceiver;

/// How long a story waits for something that happens in milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct FakePlatform {
    pub app: App,
    pub host: FakeHost,
    pub clock: Clock,
    /// Where the platform listens, as Caddy would reach it.
    pub address: SocketAddr,
    /// Where it answers what Caddy and the operator ask.
    pub internal: SocketAddr,
    pub database: Database,
    /// Where the webhooks of every instance arrive.
    pub receiver: WebhookReceiver,
    /// What the programs in the containers are told to say.
    pub said: Said,
    settings: Vec<(&'static str, &'static str)>,
    port: u16,
    /// The fault-injecting proxy between the platform and the provisioner's socket, in a fixture that has one.
    pub relay: Option<FaultProxy>,
    /// The platform's process: killed by dropping everything in it wherever it waits.
    process: Option<Runtime>,
    programs: CancellationToken,
}

/// How the platform reaches the fake container host.
enum Reached {
    Directly,
    ByARelay,
}

/// What answers at the containers' addresses.
enum Programs {
    StandIns,
    Nobody,
    /// A story's own, on this port.
    On(u16),
}

/// An account that has signed up: its session and its instance.
pub struct Person {
    pub handle: &'static str,
    pub signed_in: NewSession,
    pub instance: Arc<Instance>,
}

impl FakePlatform {
    /// On SQLite.
    pub async fn new(settings: &[(&'static str, &'static str)]) -> Self {
        Self::on(databases::sqlite().await, settings).await
    }

    /// On SQLite, with no listener at the containers' addresses: the test starts a real program there.
    pub async fn of_real_programs(settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, Reached::Directly, Programs::Nobody).await
    }

    /// On SQLite, with the host behind a provisioner's socket and a relay before that.
    pub async fn behind_a_relay(settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, Reached::ByARelay, Programs::StandIns).await
    }

    /// On SQLite, with a program of the story's own in every container: what listens on `port`.
    pub async fn with_programs_on(port: u16, settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, Reached::Directly, Programs::On(port)).await
    }

    pub async fn on(database: Database, settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(database, settings, Reached::Directly, Programs::StandIns).await
    }

    async fn build(
        database: Database,
        settings: &[(&'static str, &'static str)],
        reached_by: Reached,
        inside: Programs,
    ) -> Self {
        let programs = CancellationToken::new();
        let said = Said::new(64);
        let receiver = WebhookReceiver::default();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = match inside {
            Programs::On(port) => port,
            Programs::StandIns | Programs::Nobody => listener.local_addr().unwrap().port(),
        };
        let settings = settings.to_vec();
        let mut config = config(&database, &settings);
        put_on_loopback(&mut config.containers, port);
        let clock = Clock::manual(START);
        let host = FakeHost::new(config.containers.clone(), clock.clone());
        match inside {
            Programs::StandIns => start_programs(listener, host.clone(), (&receiver, said.clone()), programs.clone()),
            Programs::Nobody | Programs::On(_) => drop(listener),
        }
        let relay = match reached_by {
            Reached::Directly => None,
            Reached::ByARelay => Some(stand_between(&config.containers, host.clone()).await),
        };
        let (app, [address, internal], process) = open(config, clock.clone(), reached(&relay, &host)).await;
        let process = Some(process);
        Self { app, host, clock, address, internal, database, receiver, said, settings, port, relay, process, programs }
    }

    /// The platform's process is killed and started again: same database, same containers.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// The platform's process dies wherever it waits. When this returns, nothing of it goes on.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for the process's threads to end, for as long as a story waits"
    )]
    pub async fn kill(&mut self) {
        let process = self.process.take().expect("a process runs");
        tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
    }

    /// Another process takes the place of the killed one.
    pub async fn start(&mut self) {
        let mut config = config(&self.database, &self.settings);
        put_on_loopback(&mut config.containers, self.port);
        let (app, addresses, process) = open(config, self.clock.clone(), reached(&self.relay, &self.host)).await;
        [self.address, self.internal] = addresses;
        (self.app, self.process) = (app, Some(process));
    }

    pub fn instances(&self) -> &Instances {
        &self.app.instances
    }

    /// Signs up an account with a complete ceremony, in the platform's own runtime; its instance may not be running
    /// yet.
    pub async fn sign_up(&self, handle: &'static str) -> Person {
        let (accounts, clock) = (self.app.accounts.clone(), self.clock.clone());
        let browser = PasskeyBrowser::at_home().on_page_of(&self.app.config.hosts.app_origin());
        let process = self.process.as_ref().expect("a process runs");
        process.spawn(async move { sign_up_at(browser, &accounts, &clock, handle).await }).await.unwrap()
    }

    /// Signs up an account and waits until its instance is awake.
    pub async fn settle_in(&self, handle: &'static str) -> Person {
        let person = self.sign_up(handle).await;
        until(&person.instance, |status| status.fact == Fact::Awake).await;
        self.instances().settled().await;
        person
    }

    /// The owner comes, a second later. What follows happens in the platform's own process, and dies with it.
    pub async fn visit(&self, instance: &Arc<Instance>) {
        self.clock.advance(Duration::from_secs(1));
        let (instances, instance) = (self.instances().clone(), Arc::clone(instance));
        let process = self.process.as_ref().expect("a process runs");
        process.spawn(async move { instances.wake(&instance, Cause::Visit).await.unwrap() }).await.unwrap();
    }

    /// Time passes, and the loop has looked.
    pub async fn wait(&self, time: Duration) {
        self.clock.advance(time);
        self.look().await;
    }

    /// The loop looks at everything, now.
    pub async fn look(&self) {
        self.instances().round().await;
        self.instances().settled().await;
    }

    /// Waits until the person has so many waiting deliveries, each attempted before.
    pub async fn until_tried(&self, person: &Person, deliveries: usize) {
        let (id, waits) = (person.instance.id, berth::webhooks::DeliveryState::Waiting);
        for _ in 0..PATIENCE.as_millis() / 50 {
            let waiting = self.app.webhooks.deliveries(id, waits, 99).await.unwrap();
            if waiting.len() == deliveries && waiting.iter().all(|view| view.last_result.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waiting: {:?}", self.app.webhooks.deliveries(id, waits, 9).await);
    }

    /// A cookie of the person's own instance host, got by a hand-off.
    pub async fn instance_cookie(&self, person: &Person) -> String {
        instance_cookie(&self.app.accounts, person).await
    }

    /// A request as Caddy would pass it on. `headers` come on top of Host.
    pub async fn send(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        request = request.header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = client.request(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", host, path, headers, "").await
    }
}

impl Drop for FakePlatform {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
        self.programs.cancel();
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: axum::http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Waits until the status is as asked.
pub async fn until(instance: &Instance, what: impl FnMut(&InstanceStatus) -> bool) -> InstanceStatus {
    let mut status = instance.watch();
    let seen = tokio::time::timeout(PATIENCE, status.wait_for(what)).await;
    match seen {
        Ok(seen) => seen.unwrap().clone(),
        Err(_) => panic!("still {:?}", instance.status()),
    }
}

/// A cookie of the person's own instance host, got by a hand-off.
pub async fn instance_cookie(accounts: &Accounts, person: &Person) -> String {
    cookie_of(accounts, person, &format!("{}.example.com", person.handle)).await
}

/// A cookie of an instance's host that the person may enter, got by a hand-off.
pub async fn cookie_of(accounts: &Accounts, person: &Person, host: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let session = accounts.authenticate("app.example.com", person.signed_in.session.reveal()).await.unwrap().unwrap();
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest("verifier"));
    let code = accounts.hand_off(&session, host, "state", &challenge).await.unwrap();
    let token = accounts.hand_off_redeem(host, code.reveal(), "state", "verifier", &somebody()).await.unwrap().unwrap();
    format!("__Host-berth={}", token.reveal())
}

/// A whole sign-up, as a browser and a person do it.
pub async fn sign_up(accounts: &Accounts, clock: &Clock, handle: &'static str) -> Person {
    sign_up_at(PasskeyBrowser::at_home(), accounts, clock, handle).await
}

async fn sign_up_at(mut browser: PasskeyBrowser, accounts: &Accounts, clock: &Clock, handle: &'static str) -> Person {
    let client = somebody();
    let token = accounts.sign_up_begin(handle, None, None, &client).await.unwrap();
    let token = token.reveal();
    let options = accounts.sign_up_passkey_challenge(token).await.unwrap();
    accounts.sign_up_passkey(token, browser.create(&options).await).await.unwrap();
    let SignUpStep::OneTimeCode { secret, .. } = accounts.sign_up(token).await.unwrap().step else {
        panic!("the one-time code comes after the passkey")
    };
    let codes = OneTimeCodeApp::with(&secret);
    accounts.sign_up_code(token, &codes.code(clock)).await.unwrap();
    let (signed_in, instance) = accounts.sign_up_finish(token, &client).await.unwrap();
    Person { handle, signed_in, instance }
}

/// How the platform reaches the host.
fn reached(relay: &Option<FaultProxy>, host: &FakeHost) -> Arc<dyn ContainerHost> {
    match relay {
        Some(relay) => Arc::new(RemoteHost::new(&relay.socket)),
        None => Arc::new(host.clone()),
    }
}

/// A provisioner in front of `host`, and a relay in front of that, until the test ends.
async fn stand_between(containers: &ContainerConfig, host: FakeHost) -> FaultProxy {
    let behind = ContainerConfig { socket: containers.socket.with_extension("behind"), ..containers.clone() };
    let relay_to = behind.socket.clone();
    std::fs::create_dir_all(relay_to.parent().unwrap()).unwrap();
    tokio::spawn(berth_provisioner::serve_host(Arc::new(host), behind, std::future::pending()));
    while !relay_to.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    FaultProxy::the_provisioner(&containers.socket, &relay_to)
}

/// A process of the platform; where it listens for Caddy, and for what Caddy and the operator ask.
async fn open(
    config: berth::config::Config,
    clock: Clock,
    host: Arc<dyn ContainerHost>,
) -> (App, [SocketAddr; 2], Runtime) {
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let started = process.spawn(async move {
        let app = App::open(config, clock, host).await.unwrap();
        app.instances.begin().await.unwrap();
        let end = CancellationToken::new();
        tokio::spawn(app.instances.clone().run(end.clone()));
        tokio::spawn(WebhookDispatcher::new(app.clone()).run(end.clone()));
        // One lane, so that each visitor meets the connections that the one before left.
        let lane = Lanes::start(NonZeroUsize::MIN).unwrap();
        let address = listen(lane, berth::serve::public_router(app.clone()), &end).await;
        let internal = listen(Lanes::here(), berth::serve::internal_router(app.clone()), &end).await;
        (app, [address, internal])
    });
    let (app, addresses) = started.await.unwrap();
    (app, addresses, process)
}

async fn listen(lanes: Lanes, answers: impl RequestHandler, end: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve_on(lanes, listener, answers, PeerLimit::Unlimited, end.clone()));
    address
}

fn put_on_loopback(containers: &mut ContainerConfig, port: u16) {
    containers.subnet = Ipv4Addr::new(127, 89, 0, 0);
    containers.instance_port = port;
}

/// Serves every instance's address. `/echo` tells what arrived; `/odd` answers what no tenant may say.
fn start_programs(
    listener: TcpListener,
    host: FakeHost,
    (receiver, said): (&WebhookReceiver, Said),
    end: CancellationToken,
) {
    let router = Router::new()
        .route("/healthz", get(move |headers| healthz(host.clone(), headers)))
        .route("/", get(|| async { ([(header::CONTENT_TYPE, "text/html")], "<h1>the instance itself</h1>") }))
        .route("/echo", any(echo))
        .route("/odd", get(odd))
        .route("/socket", get(socket))
        .merge(receiver.routes())
        .merge(stub_program::router(said));
    tokio::spawn(server::serve(listener, router, PeerLimit::Unlimited, end));
}

/// A program answers while its container runs.
async fn healthz(host: FakeHost, headers: axum::http::HeaderMap) -> StatusCode {
    let address: SocketAddr = headers[header::HOST].to_str().unwrap().parse().unwrap();
    if host.runs_at(address.ip()) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let headers: Vec<[String; 2]> =
        head.headers.iter().map(|(n, v)| [n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()]).collect();
    let told = json!({ "method": head.method.as_str(), "uri": head.uri.to_string(), "headers": headers, "bytes": body.len(), "body": String::from_utf8_lossy(&body[..body.len().min(1000)]) });
    axum::Json(told).into_response()
}

async fn odd() -> Response {
    let mut response = StatusCode::OK.into_response();
    for (name, value) in [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("set-cookie", "c=3; Domain=example.com"),
        ("set-cookie", "__Host-berth=planted; Secure; Path=/"),
        ("clear-site-data", "\"cookies\""),
        ("alt-svc", "h3=\":443\""),
        ("connection", "x-named"),
        ("x-named", "1"),
        ("server-timing", "db;dur=1"),
    ] {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

/// Switches to a protocol of its own and sends back what it gets.
async fn socket(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
        let mut chunk = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut chunk).await {
            stream.write_all(&chunk[..n]).await.unwrap();
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")]).into_response()
}
