//! How long a request to a sleeping instance takes at the edge, beside what the Docker Engine alone takes for the same
//! container in the same run: `scripts/bench wake`.

mod bench_platform;
mod engine;
#[expect(dead_code, reason = "it is made for the other bench too")]
mod figures;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use berth::instances::Fact;
use berth_ground::clock::Clock;

use self::bench_platform::BenchPlatform;
use self::engine::Engine;
use self::figures::Figures;

const FROZEN_ROUNDS: usize = 40;
const STOPPED_ROUNDS: usize = 20;
const AWAKE_REQUESTS: usize = 300;
const AT_ONCE: usize = 100;
/// People whose sleeping instances are all visited at one moment.
const HERD: usize = 30;
/// Rounds that may come to nothing, because somebody restarted the Engine for one; each is done again.
const LOST_ROUNDS: usize = 5;
const DEFAULT_IMAGE: &str = "berth-instance:latest";
/// One tiny program that takes as much memory as it is told to.
const TENANT: &str = "bench-tenant:1";
const MIB: f64 = 1024.0 * 1024.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let json = std::env::args().any(|word| word == "--json");
    let engine = Engine::connect()?;
    engine.sweep().await?;
    berth_testing::tenant_image::make_image(TENANT, Path::new(engine::SOCKET));
    let figures = measure(&engine).await;
    engine.sweep().await?;
    berth_testing::tenant_image::sweep(Path::new(engine::SOCKET), bench_platform::NETWORK, TENANT);
    let figures = figures?;
    print!("{}", if json { figures.lines() } else { figures.table() });
    Ok(())
}

async fn measure(engine: &Engine) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    frozen(engine, &mut figures).await?;
    engine.sweep().await?;
    stopped(engine, &mut figures).await?;
    engine.sweep().await?;
    herd(engine, &mut figures).await?;
    Ok(figures)
}

/// A program that has 200 MiB, all of it handed back while it is frozen: what it touches comes back from swap.
async fn frozen(engine: &Engine, figures: &mut Figures) -> anyhow::Result<()> {
    let platform = BenchPlatform::open(TENANT, 1).await?;
    platform.visit_by(&platform.people[0], "/eat/200").await?;
    let awake = engine.resident_bytes(&platform.container()?).await?;
    ensure!(awake >= 200 << 20, "it has only {awake} bytes");
    let mut resident = Vec::new();
    rounds(&platform, FROZEN_ROUNDS, async || {
        platform.fall_asleep(Fact::Frozen).await?;
        let container = platform.container()?;
        resident.push(engine.handed_back(&container).await?);
        let began = Clock::system().monotonic();
        engine.unpause(&container).await?;
        let unpaused = began.elapsed();
        platform.answers().await?;
        let ready = began.elapsed();
        platform.fall_asleep(Fact::Frozen).await?;
        engine.handed_back(&container).await?;
        let woken = platform.visited(async || timed(platform.visit()).await).await?;
        figures.add("floor.unpause", unpaused);
        figures.add_beside("floor.unpause_ready", ready, "floor.unpause");
        figures.add_beside("wake.frozen", woken, "floor.unpause");
        Ok(())
    })
    .await?;
    resident.sort_unstable();
    figures.once("frozen.resident_mib", resident[resident.len() / 2] as f64 / MIB, "MiB");
    Ok(())
}

async fn stopped(engine: &Engine, figures: &mut Figures) -> anyhow::Result<()> {
    let platform = BenchPlatform::open(DEFAULT_IMAGE, 1).await?;
    rounds(&platform, STOPPED_ROUNDS, async || {
        platform.fall_asleep(Fact::Stopped).await?;
        let began = Clock::system().monotonic();
        engine.start(&platform.container()?).await?;
        let started = began.elapsed();
        platform.answers().await?;
        let ready = began.elapsed();
        platform.fall_asleep(Fact::Stopped).await?;
        let woken = platform.visited(async || timed(platform.visit()).await).await?;
        figures.add("floor.start", started);
        figures.add_beside("floor.start_ready", ready, "floor.start");
        figures.add_beside("wake.stopped", woken, "floor.start");
        Ok(())
    })
    .await?;
    rounds(&platform, 1, async || {
        platform.fall_asleep(Fact::Stopped).await?;
        let container = platform.container()?;
        let since = Clock::system().now();
        platform.visited(async || platform.visits(AT_ONCE).await).await?;
        figures.once("single_flight.starts", engine.starts(&container, since).await? as f64, "starts");
        Ok(())
    })
    .await?;
    platform
        .visited(async || {
            for _ in 0..AWAKE_REQUESTS {
                figures.add("edge.awake", timed(platform.visit()).await?);
            }
            Ok(())
        })
        .await
}

/// All requests arrive at one moment, in an order; how far the order of starts departs from it is a figure too.
async fn herd(engine: &Engine, figures: &mut Figures) -> anyhow::Result<()> {
    let platform = BenchPlatform::open(TENANT, HERD).await?;
    platform.fall_asleep(Fact::Stopped).await?;
    let since = Clock::system().now();
    let visits = platform.people.iter().enumerate().map(|(place, person)| {
        let platform = &platform;
        async move {
            // Far enough apart to have an order, near enough to be one moment.
            tokio::time::sleep(Duration::from_millis(3 * place as u64)).await;
            timed(platform.visit_by(person, "/healthz")).await
        }
    });
    let outcomes = platform.visited(async || Ok(futures_util::future::join_all(visits).await)).await?;
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
        eprintln!("a visit of the herd failed: {error:#}");
    }
    let waits: Vec<Duration> = outcomes.into_iter().flatten().collect();
    figures.once("herd30.failed", failed as f64, "visits");
    figures.once("herd30.first_ms", waits.iter().min().map_or(0.0, in_ms), "ms");
    figures.once("herd30.last_ms", waits.iter().max().map_or(0.0, in_ms), "ms");
    let asked = platform.people.iter().map(bench_platform::container).collect::<anyhow::Result<Vec<_>>>()?;
    let started = engine.order_of_starts(since).await?;
    let places = |(place, container)| started.iter().position(|id| id == container).map(|at: usize| at.abs_diff(place));
    let displaced = asked.iter().enumerate().filter_map(places).max().unwrap_or_default();
    figures.once("herd30.out_of_order", displaced as f64, "places");
    Ok(())
}

fn in_ms(time: &Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Does `round` as often as asked. One that fails is done again once whatever was the matter is over.
async fn rounds(
    platform: &BenchPlatform,
    count: usize,
    mut round: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut done, mut lost) = (0, 0);
    while done < count {
        match round().await {
            Ok(()) => done += 1,
            Err(error) => {
                lost += 1;
                ensure!(lost <= LOST_ROUNDS, "too many rounds came to nothing, the last one because: {error:#}");
                eprintln!("a round came to nothing and is done again: {error:#}");
                tokio::time::sleep(Duration::from_secs(5)).await;
                // Every round finds it awake.
                let _ = platform.visited(async || platform.visit().await).await;
            }
        }
    }
    Ok(())
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let began = Clock::system().monotonic();
    work.await?;
    Ok(began.elapsed())
}
