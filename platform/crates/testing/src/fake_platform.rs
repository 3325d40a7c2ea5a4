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
use berth::app::App;
use berth::config::ContainerConfig;
use berth::edge::WebhookDispatcher;
use berth::instances::{Cause, Fact, Instance, InstanceStatus, Instances};
use berth_containers::ContainerHost;
use berth_containers::fake::FakeHost;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_net::server::{self, Lanes, PeerLimit};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{START, config, databases};
use crate::databases::Database;
use crate::fault_proxy::FaultProxy;
use crate::person::Person;
use crate::process::{RuntimeProcess, serve, serve_on, start_app};
use crate::stub_program::{self, Said};
use crate::wait::{PATIENCE, Wait, eventually};
use crate::webhook_receiver::WebhookReceiver;

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
    pub fault_proxy: Option<FaultProxy>,
    dispatcher: WebhookDispatcher,
    /// The platform's process, which [`FakePlatform::kill`] kills.
    process: RuntimeProcess,
    programs: CancellationToken,
}

/// How the platform reaches the fake container host.
enum HostConnection {
    Direct,
    ThroughFaultProxy,
}

/// The listener at the containers' addresses.
enum Programs {
    Stubs,
    None,
    /// The test's own program, on this port.
    On(u16),
}

impl FakePlatform {
    /// On SQLite.
    pub async fn new(settings: &[(&'static str, &'static str)]) -> Self {
        Self::on(databases::sqlite().await, settings).await
    }

    /// On SQLite, with no listener at the containers' addresses: the test starts a real program there.
    pub async fn of_real_programs(settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, HostConnection::Direct, Programs::None).await
    }

    /// On SQLite, with the host behind a provisioner's socket and a fault-injecting proxy before it.
    pub async fn behind_a_fault_proxy(settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, HostConnection::ThroughFaultProxy, Programs::Stubs).await
    }

    /// On SQLite, with the test's own program, which listens on `port`, in every container.
    pub async fn with_programs_on(port: u16, settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(databases::sqlite().await, settings, HostConnection::Direct, Programs::On(port)).await
    }

    pub async fn on(database: Database, settings: &[(&'static str, &'static str)]) -> Self {
        Self::build(database, settings, HostConnection::Direct, Programs::Stubs).await
    }

    async fn build(
        database: Database,
        settings: &[(&'static str, &'static str)],
        connection: HostConnection,
        inside: Programs,
    ) -> Self {
        let programs = CancellationToken::new();
        let said = Said::new(64);
        let receiver = WebhookReceiver::default();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = match inside {
            Programs::On(port) => port,
            Programs::Stubs | Programs::None => listener.local_addr().unwrap().port(),
        };
        let settings = settings.to_vec();
        let mut config = config(&database, &settings);
        put_on_loopback(&mut config.containers, port);
        let clock = Clock::manual(START);
        let host = FakeHost::new(config.containers.clone(), clock.clone());
        match inside {
            Programs::Stubs => start_programs(listener, host.clone(), (&receiver, said.clone()), programs.clone()),
            Programs::None | Programs::On(_) => drop(listener),
        }
        let fault_proxy = match connection {
            HostConnection::Direct => None,
            HostConnection::ThroughFaultProxy => Some(start_fault_proxy(&config.containers, host.clone()).await),
        };
        let RunningPlatform { app, address, internal, dispatcher, process } =
            open(config, clock.clone(), reached(&fault_proxy, &host)).await;
        Self {
            app,
            host,
            clock,
            address,
            internal,
            database,
            receiver,
            said,
            settings,
            port,
            fault_proxy,
            dispatcher,
            process,
            programs,
        }
    }

    /// The platform's process is killed and started again: same database, same containers.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// The platform's process dies wherever it waits. No task of it runs after this returns.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Another process takes the place of the killed one.
    pub async fn start(&mut self) {
        let mut config = config(&self.database, &self.settings);
        put_on_loopback(&mut config.containers, self.port);
        let running = open(config, self.clock.clone(), reached(&self.fault_proxy, &self.host)).await;
        (self.app, self.dispatcher, self.process) = (running.app, running.dispatcher, running.process);
        (self.address, self.internal) = (running.address, running.internal);
    }

    pub fn instances(&self) -> &Instances {
        &self.app.instances
    }

    /// Signs up an account with a complete ceremony, in the platform's own process; its instance may not be running
    /// yet.
    pub async fn sign_up(&self, handle: &str) -> Person {
        let (app, handle) = (self.app.clone(), handle.to_owned());
        self.process.run(async move { Person::sign_up(&app, &handle).await }).await
    }

    /// Signs up an account and waits until its instance is awake.
    pub async fn settle_in(&self, handle: &str) -> Person {
        let person = self.sign_up(handle).await;
        until(&person.instance, |status| status.fact == Fact::Awake).await;
        self.instances().settled().await;
        person
    }

    /// A visit by the owner, a second later. The wake happens in the platform's own process, and dies with it.
    pub async fn visit(&self, instance: &Arc<Instance>) {
        self.clock.advance(Duration::from_secs(1));
        let (instances, instance) = (self.instances().clone(), Arc::clone(instance));
        self.process.run(async move { instances.wake(&instance, Cause::Visit).await.unwrap() }).await;
    }

    /// Advances the clock by `time`, and runs a round of the reconciler.
    pub async fn wait(&self, time: Duration) {
        self.clock.advance(time);
        self.look().await;
    }

    /// Runs a round of the reconciler, and returns once every instance has settled.
    pub async fn look(&self) {
        self.instances().round().await;
        self.instances().settled().await;
    }

    /// Attempts every webhook delivery that is due, and returns once no attempt is in flight. What has not been
    /// delivered then is not due.
    pub async fn deliver_due(&self) {
        let dispatcher = self.dispatcher.clone();
        let attempts = async move {
            dispatcher.dispatch_due();
            dispatcher.settled().await;
        };
        self.process.run(attempts).await;
    }

    /// Waits until the person has `deliveries` waiting deliveries, each attempted at least once.
    pub async fn until_tried(&self, person: &Person, deliveries: usize) {
        let (id, waits) = (person.instance.id, berth::webhooks::DeliveryState::Waiting);
        let were_tried = async || {
            let waiting = self.app.webhooks.deliveries(id, waits, 99).await.unwrap();
            waiting.len() == deliveries && waiting.iter().all(|view| view.last_result.is_some())
        };
        if !Wait::within(PATIENCE).succeeds(were_tried).await {
            panic!("waiting: {:?}", self.app.webhooks.deliveries(id, waits, 9).await);
        }
    }

    /// A session cookie for the host of the person's own instance, from a hand-off.
    pub async fn instance_cookie(&self, person: &Person) -> String {
        person.cookie_for(&self.app.accounts, &person.host()).await
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

/// How the platform reaches the host.
fn reached(fault_proxy: &Option<FaultProxy>, host: &FakeHost) -> Arc<dyn ContainerHost> {
    match fault_proxy {
        Some(proxy) => Arc::new(RemoteHost::new(&proxy.socket)),
        None => Arc::new(host.clone()),
    }
}

/// A provisioner in front of `host`, and a fault-injecting proxy in front of it, until the test ends.
async fn start_fault_proxy(containers: &ContainerConfig, host: FakeHost) -> FaultProxy {
    let behind = ContainerConfig { socket: containers.socket.with_extension("behind"), ..containers.clone() };
    let behind_socket = behind.socket.clone();
    std::fs::create_dir_all(behind_socket.parent().unwrap()).unwrap();
    tokio::spawn(berth_provisioner::serve_host(Arc::new(host), behind, std::future::pending()));
    eventually("the provisioner listens", async || behind_socket.exists()).await;
    FaultProxy::the_provisioner(&containers.socket, &behind_socket)
}

/// A process of the platform, and where it listens.
struct RunningPlatform {
    app: App,
    address: SocketAddr,
    internal: SocketAddr,
    dispatcher: WebhookDispatcher,
    process: RuntimeProcess,
}

async fn open(config: berth::config::Config, clock: Clock, host: Arc<dyn ContainerHost>) -> RunningPlatform {
    let process = RuntimeProcess::with_threads(1);
    let started = process.run(async move {
        let end = CancellationToken::new();
        let app = start_app(config, clock, host, &end).await;
        let dispatcher = WebhookDispatcher::new(app.clone());
        tokio::spawn(dispatcher.clone().run(end.clone()));
        // One lane, so that each visitor meets the connections that the one before left.
        let lane = Lanes::start(NonZeroUsize::MIN).unwrap();
        let address = serve_on(lane, berth::serve::public_router(app.clone()), &end).await;
        let internal = serve(berth::serve::internal_router(app.clone()), &end).await;
        (app, dispatcher, address, internal)
    });
    let (app, dispatcher, address, internal) = started.await;
    RunningPlatform { app, address, internal, dispatcher, process }
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
