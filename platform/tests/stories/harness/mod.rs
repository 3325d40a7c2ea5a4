//! What every story stands on: empty databases of both kinds, a clock that is moved by hand, settings, and the rooms on top.

pub mod between;
pub mod browser;
pub mod crowd;
pub mod databases;
pub mod engine;
pub mod front;
pub mod hamlet;
pub mod letterbox;
pub mod long;
pub mod name_server;
pub mod pebble;
pub mod program;
pub mod provisioner;
pub mod raw;
pub mod stack;
pub mod tenant;
pub mod town;
pub mod visitor;
pub mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth::accounts::{Accounts, Belongings};
use berth::alarms::Alarms;
use berth::client::Client;
use berth::clock::{Clock, Timestamp};
use berth::config::Config;
use berth::containers::fake::FakeHost;
use berth::db::Db;
use berth::domains::Domains;
use berth::instances::Instances;
use berth::mailbox::Mailbox;
use berth::own_keys::OwnKeys;
use berth::secrets::Keys;
use berth::sharing::Sharing;
pub use databases::{Database, databases, sqlite};

/// A Sunday in November 2026, half past ten in the morning, at the start of a one-time code's 30 seconds.
pub const START: Timestamp = Timestamp(1_794_738_600_000);

/// The rooms on an empty database, with a world of containers that only exists in memory.
pub struct House {
    pub db: Db,
    pub clock: Clock,
    pub config: Config,
    pub keys: Keys,
    /// What stands in for Docker.
    pub host: FakeHost,
    pub instances: Instances,
    alarms: Alarms,
    mailbox: Mailbox,
    sharing: Sharing,
    domains: Domains,
    pub own_keys: OwnKeys,
    pub accounts: Accounts,
    database: Database,
}

impl House {
    /// A house on `database` with default settings.
    pub async fn on(database: Database) -> Self {
        Self::with(database, &[]).await
    }

    /// A house with some settings of its own.
    pub async fn with(database: Database, settings: &[(&str, &str)]) -> Self {
        let config = config(&database, settings);
        let clock = Clock::manual(START);
        let keys = Keys::derive(&config.secret, clock.clone());
        let host = FakeHost::new(config.containers.clone(), clock.clone());
        let db = database.db.clone();
        let instances = Instances::open(db.clone(), clock.clone(), Arc::new(host.clone()), &config).await.unwrap();
        let hosts = config.hosts.clone();
        let open = config.signups_open;
        let mailbox = Mailbox::open(db.clone(), clock.clone()).await.unwrap();
        let alarms = Alarms::open(db.clone(), clock.clone(), instances.clone(), mailbox.clone()).await.unwrap();
        let sharing = Sharing::open(db.clone(), clock.clone(), instances.clone()).await.unwrap();
        let domains = Domains::open(db.clone(), clock.clone(), instances.clone(), &config).await.unwrap();
        let own_keys = OwnKeys::open(db.clone(), clock.clone(), keys.clone(), &config).await.unwrap();
        let belongings = Belongings {
            instances: instances.clone(),
            alarms: alarms.clone(),
            mailbox: mailbox.clone(),
            sharing: sharing.clone(),
            domains: domains.clone(),
            own_keys: own_keys.clone(),
        };
        let accounts = Accounts::new(db.clone(), keys.clone(), clock.clone(), hosts, open, belongings).unwrap();
        Self {
            db,
            clock,
            config,
            keys,
            host,
            instances,
            alarms,
            mailbox,
            sharing,
            domains,
            own_keys,
            accounts,
            database,
        }
    }

    /// The accounts room of another process on the same database.
    pub fn accounts_elsewhere(&self) -> Accounts {
        let (db, keys, clock) = (self.db.clone(), self.keys.clone(), self.clock.clone());
        let (instances, alarms, mailbox) = (self.instances.clone(), self.alarms.clone(), self.mailbox.clone());
        let (sharing, domains, own_keys) = (self.sharing.clone(), self.domains.clone(), self.own_keys.clone());
        let belongings = Belongings { instances, alarms, mailbox, sharing, domains, own_keys };
        Accounts::new(db, keys, clock, self.config.hosts.clone(), self.config.signups_open, belongings).unwrap()
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

/// Somebody at an address that nobody else in this process has, so that limits by address do not meet.
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
