//! Shared test fixtures: empty databases of both kinds, a manual clock, settings, and the platform's modules on top of
//! them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

pub mod container_hosts;
pub mod quota_platform;
pub mod stub_provider;
pub mod web_client;

pub mod bulk_accounts;
pub mod caddy;
pub mod chromium;
pub mod databases;
pub mod deployed_stack;
pub mod docker_engine;
pub mod engine_platform;
pub mod fake_platform;
pub mod fault_proxy;
pub mod http1_client;
pub mod name_server;
pub mod passkey_browser;
pub mod person;
pub mod process;
pub mod provisioner;
pub mod raw_program;
pub mod soak;
pub mod stub_program;
pub mod tenant_image;
pub mod wait;
pub mod webhook_receiver;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth::accounts::Accounts;
use berth::app::App;
use berth::config::Config;
use berth::db::Db;
use berth::instances::Instances;
use berth::modules::Modules;
use berth::own_keys::OwnKeys;
use berth_containers::fake::FakeHost;
use berth_ground::clock::{Clock, Timestamp};
use berth_net::peer::Client;
pub use databases::{Database, databases, sqlite};

/// A Sunday in November 2026, half past ten in the morning, at the start of a one-time code's 30 seconds.
pub const START: Timestamp = Timestamp(1_794_738_600_000);

/// The platform's modules on an empty database, with the in-memory fake container host.
pub struct TestModules {
    pub db: Db,
    pub clock: Clock,
    pub config: Config,
    /// What stands in for Docker.
    pub host: FakeHost,
    pub instances: Instances,
    pub own_keys: OwnKeys,
    pub accounts: Accounts,
    pub modules: Modules,
    database: Database,
}

impl TestModules {
    /// The modules on `database` with default settings.
    pub async fn on(database: Database) -> Self {
        Self::with(database, &[]).await
    }

    /// The modules on `database` with `settings` on top of the defaults.
    pub async fn with(database: Database, settings: &[(&str, &str)]) -> Self {
        let config = config(&database, settings);
        let clock = Clock::manual(START);
        let host = FakeHost::new(config.containers.clone(), clock.clone());
        let app = open(&database.db, &config, &clock, &host).await;
        let App { db, instances, own_keys, accounts, modules, .. } = app;
        Self { db, clock, config, host, instances, own_keys, accounts, modules, database }
    }

    /// The accounts of another process on the same database.
    pub async fn accounts_elsewhere(&self) -> Accounts {
        open(&self.db, &self.config, &self.clock, &self.host).await.accounts
    }

    /// The kind of database below, for messages.
    pub fn kind(&self) -> &'static str {
        self.database.kind
    }

    /// Moves on to a fresh one-time code.
    pub fn next_code(&self) {
        self.clock.advance(Duration::from_secs(30));
    }
}

/// The whole platform, wired as `berth serve` wires it.
async fn open(db: &Db, config: &Config, clock: &Clock, host: &FakeHost) -> App {
    App::on(db.clone(), config.clone(), clock.clone(), Arc::new(host.clone())).await.unwrap()
}

/// Settings for tests: the domain example.com, everything else as it comes, `settings` on top.
pub fn config(database: &Database, settings: &[(&str, &str)]) -> Config {
    config_at(&database.url, database.dir(), settings)
}

/// The same for another process's database.
pub fn config_at(url: &str, dir: &str, settings: &[(&str, &str)]) -> Config {
    let basic = [
        ("BERTH_DOMAIN", "example.com"),
        ("BERTH_SECRET", "a secret for stories, 32 characters and more"),
        ("BERTH_DATA_DIR", dir),
        ("DATABASE_URL", url),
    ];
    let lookup = |name: &str| {
        let found = settings.iter().chain(&basic).find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::read(&lookup).unwrap()
}

/// A client with an IP address that is unique in this process, so that tests do not share rate limits by address.
pub fn somebody() -> Client {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Client {
        ip: IpAddr::V4((0x0A00_0000 + next).into()),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36".into(),
    }
}

/// A Python with the official SDKs.
#[expect(clippy::disallowed_methods, reason = "scripts, not Berth, are what this variable speaks to")]
pub fn python() -> std::path::PathBuf {
    let python = std::path::PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/berth/venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: scripts/test makes it, with the anthropic and openai packages",
        python.display()
    );
    python
}

/// The path of a binary of the workspace. Cargo builds `berth` before the platform's tests run.
///
/// # Panics
/// Outside a test or bench that cargo built.
pub fn binary(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(std::path::Path::parent).expect("a test lies in target/PROFILE/deps").join(name)
}

/// A file of the tests' fixtures.
pub fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(name)
}
