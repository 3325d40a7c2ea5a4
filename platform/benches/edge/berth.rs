//! The platform under test, assembled as in `berth serve`, in a process of its own. Its containers exist only in
//! memory: each instance has an address on loopback, where the upstream listens.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use berth::config::Config;
use berth::db::Db;
use berth::edge::{self, WebhookDispatcher};
use berth::instances::Fact;
use berth_containers::fake::FakeHost;
use berth_ground::clock::Clock;
use berth_net::server::Lanes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use berth_testing::person::Person;
use berth_testing::process::{serve_on, start_app};

use super::process;

/// How long an instance may take to wake. It takes milliseconds.
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Written to standard output as JSON once the platform listens.
#[derive(Serialize, Deserialize)]
pub struct BerthAddresses {
    /// The public listener, which Caddy would use.
    pub listen: SocketAddr,
    /// The internal listener, with `/ask`.
    pub internal: SocketAddr,
    pub visitors: Vec<Visitor>,
}

/// The owner of an instance, with a session on its host.
#[derive(Clone, Serialize, Deserialize)]
pub struct Visitor {
    pub host: String,
    pub cookie: String,
}

/// Serves this many instances, all awake, until the process is terminated.
pub fn run(upstream: u16, people: usize) -> anyhow::Result<()> {
    // The same runtime as on the command line.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(upstream, people))
}

async fn serve(upstream: u16, people: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().display().to_string();
    let mut config = Config::read(&|name| match name {
        "BERTH_DATA_DIR" => Some(data.clone()),
        "BERTH_DOMAIN" => Some("example.com".into()),
        "BERTH_SECRET" => Some("a secret for benches, 32 characters and more".into()),
        _ => None,
    })?;
    config.containers.subnet = Ipv4Addr::new(127, 89, 0, 0);
    config.containers.instance_port = upstream;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(format!("{},{}", berth::db::QUIET_LOG, config.log.filter))?)
        .with_writer(std::io::stderr)
        .init();

    let (clock, end) = (Clock::system(), CancellationToken::new());
    let host = Arc::new(FakeHost::new(config.containers.clone(), clock.clone()));
    Db::open_and_migrate(&config.database_url).await?;
    let app = start_app(config, clock, host, &end).await;
    tokio::spawn(WebhookDispatcher::new(app.clone()).run(end.clone()));
    let internal = Router::new().route("/ask", get(edge::ask)).with_state(app.clone());
    let internal = serve_on(Lanes::here(), internal, &end).await;
    let listen = serve_on(Lanes::one_a_processor()?, berth::serve::public_router(app.clone()), &end).await;

    let mut visitors = Vec::new();
    for number in 0..people {
        let mut person = Person::sign_up(&app, &format!("alice{number}")).await;
        person.hand_off(&app).await;
        let mut status = person.instance.watch();
        let awake = status.wait_for(|status| status.fact == Fact::Awake);
        tokio::time::timeout(WAKE_TIMEOUT, awake)
            .await
            .with_context(|| format!("the instance is {:?}", person.instance.status()))??;
        visitors.push(Visitor { host: person.host(), cookie: person.cookie().to_owned() });
    }
    println!("{}", serde_json::to_string(&BerthAddresses { listen, internal, visitors })?);
    std::io::stdout().flush()?;
    process::until_told_to_end().await?;
    end.cancel();
    Ok(())
}
