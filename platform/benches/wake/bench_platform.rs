//! A whole platform on a real Engine whose instances are woken again and again: the provisioner is a process of its
//! own, the modules and the edge run in this one. Only the clock is manual, so that idle hours pass at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use berth::app::App;
use berth::config::Config;
use berth::db::Db;
use berth::instances::{Fact, Instance};
use berth_containers::ContainerHost as _;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use berth_testing::person::Person;
use berth_testing::process::serve;

/// Prefix of everything this bench makes on the Engine.
pub const NETWORK: &str = "bench";
/// Cheap for the instance to answer, so that the path to it dominates the measurement.
const PATH: &str = "/healthz";
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the loop has looked, until the last of the Engine's events has been dealt with, as in an instance asleep for
/// long.
const QUIET: Duration = Duration::from_millis(200);
/// Both past the minute after which a session's use is noted again, as it is for a person who comes back to a sleeping
/// instance.
const SETTINGS: [(&str, &str); 6] = [
    ("BERTH_DOMAIN", "example.com"),
    ("BERTH_SECRET", "a secret for benches, 32 characters and more"),
    ("BERTH_NETWORK", NETWORK),
    ("BERTH_SUBNET", "10.93.0.0"),
    ("BERTH_FREEZE_AFTER_SECONDS", "90"),
    ("BERTH_STOP_AFTER_SECONDS", "180"),
];

pub struct BenchPlatform {
    app: App,
    clock: Clock,
    pub people: Vec<Person>,
    /// Where the platform listens, as Caddy would reach it.
    address: SocketAddr,
    client: legacy::Client<HttpConnector, Body>,
    end: CancellationToken,
    _provisioner: Provisioner,
    _folder: TempDir,
}

impl BenchPlatform {
    /// Starts everything with so many people on `image`, and waits until all are awake.
    pub async fn open(image: &'static str, people: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().to_str().context("a temporary folder has a readable name")?;
        let lookup = |name: &str| match name {
            "BERTH_DATA_DIR" => Some(data.to_owned()),
            "BERTH_IMAGES" => Some(image.to_owned()),
            _ => SETTINGS.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        };
        let config = Config::read(&lookup)?;
        let provisioner = Provisioner::start(data, image)?;
        let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
        within(async {
            while host.ensure_networks().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await
        .context("waiting for the provisioner to make the bridges")?;
        let clock = Clock::manual(Clock::system().now());
        let db = Db::open_and_migrate(&config.database_url).await?;
        let app = App::on(db, config, clock.clone(), host).await?;
        app.instances.begin().await?;
        let end = CancellationToken::new();
        let address = serve(berth::serve::public_router(app.clone()), &end).await;
        let client = legacy::Client::builder(TokioExecutor::new()).build_http();
        let mut platform =
            Self { app, clock, people: Vec::new(), address, client, end, _provisioner: provisioner, _folder: folder };
        for number in 0..people {
            let mut person = Person::sign_up(&platform.app, &format!("alice{number}")).await;
            person.hand_off(&platform.app).await;
            platform.fact(&person.instance, Fact::Awake).await?;
            platform.people.push(person);
        }
        Ok(platform)
    }

    /// The Engine's id of the first one's container.
    pub fn container(&self) -> anyhow::Result<String> {
        container(&self.people[0])
    }

    /// Advances the clock until the platform has put every instance to sleep, including those woken by the Engine
    /// alone.
    pub async fn fall_asleep(&self, fact: Fact) -> anyhow::Result<()> {
        let size = &self.app.config.containers.sizes[0];
        let after = if fact == Fact::Frozen { size.freeze_after } else { size.stop_after };
        let now = self.clock.now();
        let idle_since = |person: &Person| self.app.instances.awake_report(&person.instance).idle_since;
        let idle = self.people.iter().map(|person| now.since(idle_since(person))).min().unwrap_or_default();
        self.clock.advance(after.saturating_sub(idle));
        self.app.instances.round().await;
        self.app.instances.settled().await;
        for Person { instance, .. } in &self.people {
            ensure!(instance.fact() == fact, "an instance is {:?} instead", instance.status());
        }
        Ok(())
    }

    /// Runs the loop around `visit`. While the Engine alone is measured the loop is not running: it would put what
    /// the Engine wakes back to sleep.
    pub async fn visited<T>(&self, visit: impl AsyncFnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let end = CancellationToken::new();
        let runs = tokio::spawn(self.app.instances.clone().run(end.clone()));
        self.app.instances.round().await;
        self.app.instances.settled().await;
        tokio::time::sleep(QUIET).await;
        let outcome = visit().await;
        end.cancel();
        runs.await?;
        outcome
    }

    /// A program's request with its owner's cookie, through the platform, to the last byte of the answer.
    pub async fn visit(&self) -> anyhow::Result<()> {
        self.visit_by(&self.people[0], PATH).await
    }

    pub async fn visit_by(&self, person: &Person, path: &str) -> anyhow::Result<()> {
        self.get(person, self.address, path).await
    }

    /// So many of them at once.
    pub async fn visits(&self, count: usize) -> anyhow::Result<()> {
        futures_util::future::try_join_all((0..count).map(|_| self.visit())).await?;
        Ok(())
    }

    /// Waits until the first one's instance itself answers.
    pub async fn answers(&self) -> anyhow::Result<()> {
        let first = &self.people[0];
        within(async {
            while self.get(first, first.instance.socket(), PATH).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
        .await
    }

    async fn get(&self, person: &Person, address: SocketAddr, path: &str) -> anyhow::Result<()> {
        let request = Request::get(format!("http://{address}{path}"))
            .header(header::HOST, person.host())
            .header(header::COOKIE, person.cookie())
            .body(Body::empty())?;
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = axum::body::to_bytes(Body::new(body), 64 * 1024).await?;
        ensure!(head.status == StatusCode::OK, "{}: {}", head.status, String::from_utf8_lossy(&body));
        Ok(())
    }

    async fn fact(&self, instance: &Instance, fact: Fact) -> anyhow::Result<()> {
        let mut status = instance.watch();
        within(async { Ok(status.wait_for(|status| status.fact == fact).await.map(|_| ())?) })
            .await
            .with_context(|| format!("the instance is {:?}", instance.status()))?;
        self.app.instances.settled().await;
        Ok(())
    }
}

impl Drop for BenchPlatform {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// The Engine's id of the person's container.
pub fn container(person: &Person) -> anyhow::Result<String> {
    Ok(person.instance.container().context("there is no container")?.to_string())
}

/// The privileged process, as it runs in production.
struct Provisioner(Child);

impl Provisioner {
    #[expect(clippy::disallowed_methods, reason = "scripts/bench, not the operator, sets this variable")]
    fn start(data: &str, image: &str) -> anyhow::Result<Self> {
        let binary = std::env::var("BERTH_TEST_BINARY").context("run this by scripts/bench wake")?;
        let mut command = Command::new(Path::new(&binary).with_file_name("berth-provisioner"));
        command.env_clear().envs(SETTINGS.into_iter().filter(|(name, _)| *name != "BERTH_SECRET"));
        command.env("BERTH_DATA_DIR", data).env("BERTH_IMAGES", image).env("BERTH_LOG", "warn").stdin(Stdio::null());
        Ok(Self(command.spawn().context("starting the provisioner")?))
    }
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.context("it took more than a minute")?
}
