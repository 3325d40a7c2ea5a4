//! The idle cost of Berth: 1,000 accounts and 200 real containers of which most sleep, and a round
//! over 5,000 instances on the fake host: `scripts/bench scale`.

#[path = "../wake/figures.rs"]
#[expect(dead_code, reason = "it is made for the other bench too")]
mod figures;
mod processes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use berth::app::App;
use berth::control_socket;
use berth::db::Db;
use berth::instances::{Cause, Fact, Wish};
use berth_containers::fake::FakeHost;
use berth_containers::remote::RemoteHost;
use berth_containers::{ContainerHost, ContainerSpec};
use berth_ground::clock::Clock;
use futures_util::TryStreamExt as _;

use self::figures::Figures;
use self::processes::Processes;
use berth_testing::bulk_accounts::crowd;

const ACCOUNTS: u32 = 1_000;
const CONTAINERS: u32 = 200;
/// Of the containers, these are frozen in the end, and these awake; the others are stopped.
const FROZEN: usize = 10;
const AWAKE: usize = 5;
/// How long the two idle processes are observed: two of the rounds in which everything is
/// compared.
const WATCHED: Duration = Duration::from_secs(60);
/// After the last of the preparations.
const QUIET: Duration = Duration::from_secs(5);
const ON_THE_FAKE: u32 = 5_000;
const ROUNDS: usize = 9;
/// Containers made at once.
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let json = std::env::args().any(|word| word == "--json");
    let mut figures = Figures::default();
    on_the_fake_host(&mut figures).await?;
    let engine = Path::new(processes::ENGINE);
    berth_testing::tenant_image::sweep(engine, processes::NETWORK, processes::IMAGE);
    berth_testing::tenant_image::make_image(processes::IMAGE, engine);
    let measured = on_the_engine(&mut figures).await;
    berth_testing::tenant_image::sweep(engine, processes::NETWORK, processes::IMAGE);
    measured?;
    print!("{}", if json { figures.lines() } else { figures.table() });
    Ok(())
}

/// The two processes as they run in production, on a platform that is full and asleep.
async fn on_the_engine(figures: &mut Figures) -> anyhow::Result<()> {
    let mut processes = Processes::open()?;
    processes.start_provisioner()?;
    let config = processes.config()?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    until("the provisioner to make the bridges", async || host.ensure_networks().await.is_ok()).await?;
    let (clock, db) = (Clock::system(), Db::open_and_migrate(&config.database_url).await?);
    let specs = crowd(&db, &clock, processes::IMAGE, ACCOUNTS, CONTAINERS).await?;
    make(host.as_ref(), &specs).await?;
    processes.start_platform()?;
    until("the platform to answer", async || processes.is_healthy()).await?;
    // Some have been used today.
    let app = App::open(config, clock.clone(), host).await?;
    for (number, spec) in specs.iter().take(AWAKE + FROZEN).enumerate() {
        let instance =
            app.instances.by_handle(&berth_ground::handle::Handle::parse(&spec.handle)?).context("it is there")?;
        wish(&app, &instance, None, Fact::Awake).await?;
        if number >= AWAKE {
            wish(&app, &instance, Some(Wish::Frozen), Fact::Frozen).await?;
        }
    }
    tokio::time::sleep(QUIET).await;
    let before = processes.cpu_seconds()?;
    let began = clock.monotonic();
    tokio::time::sleep(WATCHED).await;
    let idle = (processes.cpu_seconds()? - before) / began.elapsed().as_secs_f64() * 100.0;
    let [platform, provisioner] = processes.resident_mib()?;
    figures.once("scale.platform_rss_mib", platform, "MiB");
    figures.once("scale.provisioner_rss_mib", provisioner, "MiB");
    figures.once("scale.idle_cpu_percent", idle, "% of a core");
    Ok(())
}

/// Volumes and containers as the platform has them made, all stopped.
async fn make(host: &dyn ContainerHost, specs: &[ContainerSpec]) -> anyhow::Result<()> {
    futures_util::stream::iter(specs.iter().map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(AT_ONCE, async |spec| {
            host.ensure_volume(spec.instance, &spec.size).await?;
            Ok(host.create(spec).await?)
        })
        .await
}

/// An operator's wish, until it has come true.
async fn wish(
    app: &App,
    instance: &Arc<berth::instances::Instance>,
    sleep: Option<Wish>,
    fact: Fact,
) -> anyhow::Result<()> {
    match sleep {
        None => app.instances.wake(instance, Cause::OperatorAsked).await,
        Some(how) => app.instances.sleep(instance, how, Cause::OperatorAsked).await,
    }
    .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    ensure!(control_socket::nudge(&app.config.control_socket(), instance.id).await?, "the platform does not run");
    until("a wish to come true", async || app.instances.recorded(instance.id).await.is_ok_and(|s| s.fact == fact)).await
}

/// The loop alone: rows in SQLite, containers that only exist in memory, all at rest.
async fn on_the_fake_host(figures: &mut Figures) -> anyhow::Result<()> {
    let processes = Processes::open()?;
    let config = processes.config()?;
    let clock = Clock::manual(Clock::system().now());
    let host = FakeHost::new(config.containers.clone(), clock.clone());
    let db = Db::open_and_migrate(&config.database_url).await?;
    for spec in crowd(&db, &clock, processes::IMAGE, ON_THE_FAKE, ON_THE_FAKE).await? {
        host.create(&spec).await?;
    }
    let app = App::on(db, config, clock, Arc::new(host)).await?;
    app.instances.begin().await?;
    app.instances.settled().await;
    for _ in 0..ROUNDS {
        let began = Clock::system().monotonic();
        app.instances.round().await;
        app.instances.settled().await;
        figures.add("scale.round_5000", began.elapsed());
    }
    figures.once("scale.reconcile_5000_ms", figures.median_ms("scale.round_5000"), "ms");
    Ok(())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.with_context(|| format!("waited in vain for {what}"))
}
