//! A fixture for tests of AI calls and quotas: the platform's modules over the fake container host, accounts with an
//! instance each, the demo model as every provider, and the quota proxy in front of it.
//!
//! Instances live on 127.89.0.0, so that a test can call from an instance's own address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth::app::App;
use berth::config::Config;
use berth::db::{AccountId, Db};
use berth::llm::ProxyTimeouts;
use berth::quota::Quota;
use berth::quota::reports::AccountBudget;
use berth::{instance_api, llm};
use berth_containers::fake::FakeHost;
use berth_ground::clock::Clock;
use berth_ground::money::Nanodollars;
use berth_ground::secrets::{self, InstallationKeys};
use sea_orm::ConnectionTrait as _;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::person::Person;
use crate::process::{serve, start_app};
use crate::wait::eventually;
use crate::{Database, config};

/// The platform's parts and where they answer.
pub struct QuotaPlatform {
    pub app: App,
    pub clock: Clock,
    /// Of the quota proxy.
    pub proxy: SocketAddr,
    /// Of the demo model.
    pub upstream: SocketAddr,
    host: Arc<FakeHost>,
    database: Database,
    _running: DropGuard,
}

impl QuotaPlatform {
    /// On `database`, with what `change` changes in the settings.
    pub async fn on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let running = CancellationToken::new();
        let upstream = serve(berth_demo::router(), &running).await;
        let mut config = config(&database, &[("BERTH_CALLS_AT_ONCE", "1000")]);
        config.containers.subnet = Ipv4Addr::new(127, 89, 0, 0);
        config.anthropic.url = format!("http://{upstream}");
        config.openai.url = format!("http://{upstream}");
        change(&mut config);
        let (app, host, proxy) = platform(config, &running).await;
        Self { clock: app.clock.clone(), app, proxy, upstream, host, database, _running: running.drop_guard() }
    }

    /// The kind of database below, for messages.
    pub fn kind(&self) -> &'static str {
        self.database.kind
    }

    /// Another quota proxy, with other limits for draining after a disconnect.
    pub async fn proxy_draining(&self, most: usize, within: Duration) -> SocketAddr {
        self.proxy_with(ProxyTimeouts { most_drains: most, drain: within, ..ProxyTimeouts::default() }).await
    }

    /// Another quota proxy, with other timeouts.
    pub async fn proxy_with(&self, timeouts: ProxyTimeouts) -> SocketAddr {
        serve(llm::router_with(self.app.clone(), timeouts), &CancellationToken::new()).await
    }

    /// A new account; returns once its container has been created.
    pub async fn person(&self, handle: &str) -> Person {
        settle_in(&self.app, &self.host, handle).await
    }

    /// What `person` spent, after checking that the books agree and nothing is held.
    pub async fn spend_at_rest(&self, person: &Person) -> AccountBudget {
        self.app.quota.settled().await;
        let spend = self.app.quota.reports.budget(person.instance.account).await.unwrap();
        assert_eq!(self.app.quota.disagreements().await.unwrap(), Vec::<String>::new());
        assert_eq!(spend.held_nanodollars.0, 0, "something is held although no call is in flight");
        spend
    }

    /// The one receipt of `person`: its amount, basis and outcome.
    pub async fn receipt(&self, person: &Person) -> (i64, String, String) {
        self.app.quota.settled().await;
        let mut mine = self.receipts(person).await;
        assert_eq!(mine.len(), 1, "not one receipt");
        mine.remove(0)
    }

    /// The receipts of `person` that are in the database, in their order.
    pub async fn receipts(&self, person: &Person) -> Vec<(i64, String, String)> {
        let sql = "SELECT amount_nanodollars, basis, outcome, account_id FROM receipts ORDER BY seq";
        let db = self.app.db.read();
        let rows = db.query_all_raw(sea_orm::Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
        let of = |row: &sea_orm::QueryResult| row.try_get::<AccountId>("", "account_id").unwrap();
        let text = |row: &sea_orm::QueryResult, name: &str| row.try_get::<String>("", name).unwrap();
        rows.iter()
            .filter(|row| of(row) == person.instance.account)
            .map(|row| (row.try_get("", "amount_nanodollars").unwrap(), text(row, "basis"), text(row, "outcome")))
            .collect()
    }

    /// What the demo model says it served.
    pub async fn served(&self) -> Value {
        json(client(None).get(format!("http://{}/demo/ledger", self.upstream)).send().await.unwrap()).await
    }
}

impl Person {
    /// A call from this person's instance.
    pub fn post(&self, world: &QuotaPlatform, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.post_by(world.proxy, path, body)
    }

    /// A call by another quota proxy.
    pub fn post_by(&self, proxy: SocketAddr, path: &str, body: &Value) -> reqwest::RequestBuilder {
        client(Some(self.instance.address()))
            .post(format!("http://{proxy}{path}"))
            .header("x-api-key", self.token())
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    pub fn get(&self, world: &QuotaPlatform, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", world.proxy);
        client(Some(self.instance.address())).get(url).bearer_auth(self.token())
    }
}

/// The JSON of an answer.
pub async fn json(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// A client that calls from `address`.
pub fn client(address: Option<Ipv4Addr>) -> reqwest::Client {
    // The proxy is reached over plain HTTP, but reqwest wants to know its TLS all the same.
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .local_address(address.map(Into::into))
        .no_proxy()
        .build()
        .unwrap()
}

/// The platform's parts on the database that `config` names, with a quota proxy that listens.
pub async fn platform(config: Config, running: &CancellationToken) -> (App, Arc<FakeHost>, SocketAddr) {
    let host = Arc::new(FakeHost::new(config.containers.clone(), Clock::system()));
    let app = start_app(config, Clock::system(), host.clone(), running).await;
    app.quota.begin().await.unwrap();
    let router = llm::router(app.clone()).merge(instance_api::router(app.clone()));
    let proxy = serve(router, running).await;
    (app, host, proxy)
}

/// Inserts an account and waits until its container has been created.
pub async fn settle_in(app: &App, host: &FakeHost, handle: &str) -> Person {
    let person = Person::insert(app, handle).await;
    let token = || host.spec(person.instance.id).map(|spec| spec.token);
    let is_known = |token: String| app.instances.by_token_hash(&secrets::hash(&token)).is_some();
    eventually(&format!("{handle} has a container"), async || token().is_some_and(is_known)).await;
    let token = token().expect("the container was created");
    person.with_token(token)
}

/// Books alone, without the rest of the platform: as a command of the operator opens them on the same database.
pub async fn reopen(world: &QuotaPlatform, clock: &Clock, month_nanodollars: i64) -> Quota {
    let mut config = (*world.app.config).clone();
    config.limits.month_nanodollars = Nanodollars(month_nanodollars);
    reopen_at(&config, clock).await
}

/// The books as the next process finds them when this one is killed now: with the journal as it is on the disk.
/// The process that they are taken from is shut out of them.
pub async fn after_a_kill(world: &QuotaPlatform, clock: &Clock, month_nanodollars: i64) -> Quota {
    let mut config = (*world.app.config).clone();
    config.limits.month_nanodollars = Nanodollars(month_nanodollars);
    let left = config.data_dir.join("quota");
    config.data_dir = config.data_dir.join(clock.uuid().to_string());
    let next = config.data_dir.join("quota");
    std::fs::create_dir_all(&next).unwrap();
    for file in ["journal", "journal.old"] {
        if left.join(file).exists() {
            std::fs::copy(left.join(file), next.join(file)).unwrap();
        }
    }
    let quota = reopen_at(&config, clock).await;
    quota.begin().await.unwrap();
    quota
}

/// Books alone, with these settings.
pub async fn reopen_at(config: &Config, clock: &Clock) -> Quota {
    let db = Db::open(&config.database_url).await.unwrap();
    Quota::open(db, clock.clone(), &InstallationKeys::derive(&config.secret, clock.clone()), config).unwrap()
}
