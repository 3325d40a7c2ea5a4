//! The platform as `berth serve` puts it together, in a process of its own, on containers that only exist in memory.
//! Every instance's address is one on loopback, which is where its calls must come from. The ledger is a file, as in
//! production.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth::config::Config;
use berth::db::Db;
use berth::edge::WebhookDispatcher;
use berth::instances::{Cause, Fact};
use berth::{instance_api, llm};
use berth_containers::ContainerHost as _;
use berth_containers::fake::FakeHost;
use berth_ground::clock::Clock;
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use berth_net::server::Lanes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::process;
use super::questions::Caller;
use berth_testing::bulk_accounts::crowd;
use berth_testing::process::{serve_on, start_app};

/// A million dollars.
pub const PLENTY: i64 = 1_000_000_000_000_000;
/// So many that none has more calls at once than an account may.
const PEOPLE: u32 = 128;
/// Calls that an account may have at once where money is to be what bounds them: all that anybody makes here.
const WHEN_MONEY_BOUNDS: u32 = 1_000;
/// How long an instance may take to wake, which takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it says once it listens.
#[derive(Serialize, Deserialize)]
pub struct Said {
    pub proxy: SocketAddr,
    pub callers: Vec<Caller>,
}

/// Serves people's instances, all awake, until it is told to end.
pub fn run(upstream: u16, allowance_nanodollars: i64) -> anyhow::Result<()> {
    // As the command line makes it.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(upstream, allowance_nanodollars))
}

async fn serve(upstream: u16, allowance_nanodollars: i64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = config(&folder.path().display().to_string(), upstream, allowance_nanodollars)?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(format!("{},{}", berth::db::QUIET_LOG, config.log.filter))?)
        .with_writer(std::io::stderr)
        .init();
    let (clock, end) = (Clock::system(), CancellationToken::new());
    let host = Arc::new(FakeHost::new(config.containers.clone(), clock.clone()));
    let db = Db::open_and_migrate(&config.database_url).await?;
    let image = config.containers.images.first().context("there is an image")?;
    let specs = crowd(&db, &clock, image, PEOPLE, PEOPLE).await?;
    for spec in &specs {
        host.ensure_volume(spec.instance, &spec.size).await?;
        host.create(spec).await?;
    }
    drop(db);
    let app = start_app(config, clock, host, &end).await;
    app.quota.begin().await?;
    tokio::spawn(WebhookDispatcher::new(app.clone()).run(end.clone()));
    // Without visitors, but with the memory that the listener takes in production.
    let (lanes, call_lanes) = (Lanes::one_a_processor()?, Lanes::one_a_processor()?);
    serve_on(lanes, berth::serve::public_router(app.clone()), &end).await;
    let inside = llm::router(app.clone()).merge(instance_api::router(app.clone()));
    let proxy = serve_on(call_lanes, inside, &end).await;

    let mut callers = Vec::new();
    for spec in specs {
        let instance = app.instances.by_handle(&Handle::parse(&spec.handle)?).context("it is there")?;
        app.instances.wake(&instance, Cause::Visit).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut status = instance.watch();
        let awake = status.wait_for(|status| status.fact == Fact::Awake);
        tokio::time::timeout(PATIENCE, awake)
            .await
            .with_context(|| format!("the instance is {:?}", instance.status()))??;
        callers.push(Caller { source: instance.address(), token: spec.token });
    }
    println!("{}", serde_json::to_string(&Said { proxy, callers })?);
    std::io::stdout().flush()?;
    process::until_told_to_end().await?;
    end.cancel();
    Ok(())
}

fn config(data: &str, upstream: u16, allowance_nanodollars: i64) -> anyhow::Result<Config> {
    let mut config = Config::read(&|name| match name {
        "BERTH_DATA_DIR" => Some(data.to_owned()),
        "BERTH_DOMAIN" => Some("example.com".into()),
        "BERTH_SECRET" => Some("a secret for benches, 32 characters and more".into()),
        _ => None,
    })?;
    config.containers.subnet = Ipv4Addr::new(127, 89, 0, 0);
    config.containers.instance_port = upstream;
    // Every limit is looked at, and only money ever bounds.
    config.limits.month_nanodollars = Nanodollars(allowance_nanodollars);
    config.limits.day_nanodollars = Some(Nanodollars(PLENTY));
    config.limits.requests_a_minute = Some(u32::MAX);
    config.limits.tokens_a_minute = Some(u32::MAX);
    if allowance_nanodollars < PLENTY {
        config.limits.calls_at_once = WHEN_MONEY_BOUNDS;
    }
    for provider in [&mut config.anthropic, &mut config.openai] {
        provider.url = format!("http://127.0.0.1:{upstream}");
        provider.keys = vec![Zeroizing::new("sk-of-the-platform-0123456789abcdef0123456789abcdef".into())];
    }
    Ok(config)
}
