//! How long a request to a sleeping instance takes at the edge, beside what the Docker Engine alone takes for the same
//! container in the same run: `scripts/bench wake`.

#[path = "../tests/stories/harness/browser.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is made for the stories, which use the rest of it")]
mod browser;
#[path = "wake/engine.rs"]
mod engine;
#[path = "wake/figures.rs"]
mod figures;
#[path = "wake/house.rs"]
mod house;

use std::time::Duration;

use anyhow::ensure;
use berth::clock::Clock;
use berth::instances::Fact;

use self::engine::Engine;
use self::figures::Figures;
use self::house::House;

const FROZEN_ROUNDS: usize = 40;
const STOPPED_ROUNDS: usize = 20;
const AWAKE_REQUESTS: usize = 300;
const AT_ONCE: usize = 100;
/// Rounds that may come to nothing, because somebody restarted the Engine for one; each is done again.
const LOST_ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let json = std::env::args().any(|word| word == "--json");
    let engine = Engine::connect()?;
    engine.sweep().await?;
    let figures = measure(&engine).await;
    engine.sweep().await?;
    let figures = figures?;
    print!("{}", if json { figures.lines() } else { figures.table() });
    Ok(())
}

async fn measure(engine: &Engine) -> anyhow::Result<Figures> {
    let house = House::open().await?;
    let mut figures = Figures::default();
    rounds(&house, FROZEN_ROUNDS, async || {
        house.fall_asleep(Fact::Frozen).await?;
        let began = Clock::system().monotonic();
        engine.unpause(&house.container()?).await?;
        let unpaused = began.elapsed();
        house.answers().await?;
        let ready = began.elapsed();
        house.fall_asleep(Fact::Frozen).await?;
        let woken = house.visited(async || timed(house.visit()).await).await?;
        figures.add("floor.unpause", unpaused);
        figures.add_beside("floor.unpause_ready", ready, "floor.unpause");
        figures.add_beside("wake.frozen", woken, "floor.unpause");
        Ok(())
    })
    .await?;
    rounds(&house, STOPPED_ROUNDS, async || {
        house.fall_asleep(Fact::Stopped).await?;
        let began = Clock::system().monotonic();
        engine.start(&house.container()?).await?;
        let started = began.elapsed();
        house.answers().await?;
        let ready = began.elapsed();
        house.fall_asleep(Fact::Stopped).await?;
        let woken = house.visited(async || timed(house.visit()).await).await?;
        figures.add("floor.start", started);
        figures.add_beside("floor.start_ready", ready, "floor.start");
        figures.add_beside("wake.stopped", woken, "floor.start");
        Ok(())
    })
    .await?;
    rounds(&house, 1, async || {
        house.fall_asleep(Fact::Stopped).await?;
        let container = house.container()?;
        let since = Clock::system().now();
        house.visited(async || house.visits(AT_ONCE).await).await?;
        figures.count("single_flight.starts", engine.starts(&container, since).await?);
        Ok(())
    })
    .await?;
    house
        .visited(async || {
            for _ in 0..AWAKE_REQUESTS {
                figures.add("edge.awake", timed(house.visit()).await?);
            }
            Ok(())
        })
        .await?;
    Ok(figures)
}

/// Does `round` as often as asked. One that fails is done again once whatever was the matter is over.
async fn rounds(house: &House, count: usize, mut round: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
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
                let _ = house.visited(async || house.visit().await).await;
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
