//! How long the verbs take, through the Engine and through the socket: `cargo test --test stories figures -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use berth::clock::Clock;
use berth::containers::ContainerHost;
use berth::containers::fake::FakeHost;

use super::bench::{Bench, config, serve};

const ROUNDS: usize = 15;

#[tokio::test]
#[ignore = "a measurement, not a promise: its figures depend on the machine"]
async fn how_long_the_verbs_take() {
    for (body, bench) in [("engine", Bench::engine().await), ("socket", Bench::remote().await)] {
        let host = &bench.host;
        let mut took: [Vec<Duration>; 8] = Default::default();
        for _ in 0..ROUNDS {
            let spec = bench.spec();
            let id = spec.instance;
            took[0].push(time(host.ensure_volume(id)).await);
            took[1].push(time(host.create(&spec)).await);
            took[2].push(time(host.start(id)).await);
            took[3].push(time(host.freeze(id)).await);
            took[4].push(time(host.thaw(id)).await);
            took[5].push(time(host.inspect(id)).await);
            took[6].push(time(host.stop(id)).await);
            took[7].push(time(host.start(id)).await);
            host.remove_container(id).await.unwrap();
        }
        let verbs = ["volume", "create", "first start", "freeze", "thaw", "inspect", "stop", "start again"];
        for (verb, took) in verbs.into_iter().zip(took) {
            println!("{body} {verb}: {}", summary(took));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(config(dir.path()));
    let remote: Arc<dyn ContainerHost> = Arc::new(serve(Arc::new(fake), config(dir.path())).await);
    let id = Bench::fake().await.spec().instance;
    let mut took = Vec::new();
    for _ in 0..1000 {
        took.push(time(remote.inspect(id)).await);
    }
    println!("the socket alone: {}", summary(took));
}

async fn time<T, E: std::fmt::Debug>(work: impl Future<Output = Result<T, E>>) -> Duration {
    let clock = Clock::system();
    let started = clock.monotonic();
    work.await.unwrap();
    clock.monotonic().duration_since(started)
}

fn summary(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    format!("median {:.2?}, slowest {:.2?} of {}", took[took.len() / 2], took[took.len() - 1], took.len())
}
