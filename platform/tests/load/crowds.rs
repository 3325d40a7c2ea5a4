//! Crowds on the fake container host: a reconciler round over two thousand containers, and three in ten of them woken
//! within a minute.

use std::sync::Arc;
use std::time::Duration;

use berth::instances::{Cause, Fact, Instance};
use berth_containers::ContainerHost as _;
use berth_containers::fake::{HoldPoint, Verb};

use berth_testing::bulk_accounts::crowd;
use berth_testing::fake_platform::FakePlatform;

const CONTAINERS: u32 = 2_000;
const HERD: usize = 600;
/// What `BERTH_STARTS_AT_ONCE` is unless it is set.
const STARTS_AT_ONCE: u64 = 8;
const SETTINGS: [(&str, &str); 1] = [("BERTH_BRIDGES", "5")];

async fn full_platform() -> FakePlatform {
    let mut platform = FakePlatform::new(&SETTINGS).await;
    platform.kill().await;
    let image = platform.app.config.containers.images[0].clone();
    for spec in crowd(&platform.database.db, &platform.clock, &image, CONTAINERS, CONTAINERS).await.unwrap() {
        platform.host.create(&spec).await.unwrap();
    }
    platform.start().await;
    platform.look().await;
    platform
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_over_two_thousand_looks_once_and_changes_nothing() {
    let platform = full_platform().await;
    let changing = [Verb::EnsureVolume, Verb::Create, Verb::Start, Verb::Freeze, Verb::Stop, Verb::RemoveContainer];
    let count = |verb| platform.host.calls(verb);
    let (before, lists, looks) = (changing.map(count), count(Verb::List), count(Verb::Inspect));
    for _ in 0..3 {
        platform.wait(Duration::from_secs(30)).await;
    }
    assert_eq!(changing.map(count), before);
    assert!(count(Verb::List) - lists >= 3);
    assert_eq!(count(Verb::Inspect), looks, "at rest, the list says it all");
    assert!(platform.instances().all().iter().all(|instance| instance.fact() == Fact::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_in_ten_wake_within_a_minute_a_few_at_a_time_and_none_fails() {
    let platform = full_platform().await;
    let herd: Vec<Arc<Instance>> = platform.instances().all().into_iter().take(HERD).collect();
    platform.clock.advance(Duration::from_secs(1));
    let mut started = platform.host.calls(Verb::Start);
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    for instance in &herd {
        platform.instances().wake(instance, Cause::Visit).await.unwrap();
    }
    platform.host.until_held(Verb::Start).await;
    let mut most = 0;
    for instance in &herd {
        most = most.max(platform.host.held(Verb::Start));
        // One after the other, each as soon as a start is held.
        platform.host.until_held(Verb::Start).await;
        platform.host.let_one_pass(Verb::Start);
        let _ = instance;
    }
    platform.host.release(Verb::Start);
    platform.instances().settled().await;
    started = platform.host.calls(Verb::Start) - started;
    let awake = herd.iter().filter(|instance| instance.fact() == Fact::Awake).count();
    assert_eq!((awake, started), (HERD, HERD), "none failed, and none was started twice");
    assert!(most <= STARTS_AT_ONCE, "{most} were started at once");
}
