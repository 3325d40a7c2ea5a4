//! When the host's memory runs short: who sleeps, who may start, and in which order.

use std::time::Duration;

use berth::instances::{Cause, Fact, Work};
use berth_containers::ContainerHost as _;
use berth_containers::ContainerLoad;
use berth_containers::fake::{HoldPoint, Verb};

use berth_testing::fake_platform::{FakePlatform, Person, until};

/// What moved within this time is in flight.
const QUIET: Duration = Duration::from_secs(10);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// Half of what must stay free is missing, and every instance holds twice that.
async fn run_short(platform: &FakePlatform, people: &[&Person]) {
    let mut containers = Vec::new();
    for person in people {
        let seen = platform.host.inspect(person.instance.id).await.unwrap();
        containers.push(ContainerLoad { id: seen.container.unwrap().id, cpu: Duration::ZERO, memory: 2 << 30 });
    }
    platform.host.set_load(|load| {
        load.memory_available = load.memory_total / 20;
        load.containers = containers;
    });
}

async fn relieve(platform: &FakePlatform) {
    let load = platform.host.load().await.unwrap();
    platform.instances().relieve(&load);
    platform.instances().settled().await;
}

#[tokio::test]
async fn who_was_used_longest_ago_sleeps_first_and_work_in_flight_never() {
    let platform = FakePlatform::new(&[]).await;
    let ann = platform.settle_in("ann").await;
    let working = ann.instance.begin_work(Work::Request);
    platform.clock.advance(Duration::from_secs(1));
    let ben = platform.settle_in("ben").await;
    platform.clock.advance(Duration::from_secs(1));
    let cid = platform.settle_in("cid").await;
    platform.clock.advance(QUIET);
    run_short(&platform, &[&ann, &ben, &cid]).await;
    relieve(&platform).await;
    assert_eq!(
        [&ann, &ben, &cid].map(|one| one.instance.fact()),
        [Fact::Awake, Fact::Frozen, Fact::Awake],
        "one is enough, and the first of those who do nothing"
    );
    assert_eq!(ben.instance.status().cause, Cause::Pressure);
    drop(working);
    // Used again, it is as good as any other.
    platform.host.set_load(|load| load.memory_available = load.memory_total);
    platform.clock.advance(Duration::from_secs(1));
    platform.instances().wake(&ben.instance, Cause::Visit).await.unwrap();
    until(&ben.instance, |s| s.fact == Fact::Awake).await;
    platform.look().await;
    assert_eq!(ben.instance.fact(), Fact::Awake);
}

#[tokio::test]
async fn without_swap_it_is_stopped_because_freezing_would_free_nothing() {
    let platform = FakePlatform::new(&[]).await;
    let ann = platform.settle_in("ann").await;
    platform.clock.advance(QUIET);
    run_short(&platform, &[&ann]).await;
    platform.host.set_load(|load| load.swap_free = 0);
    relieve(&platform).await;
    until(&ann.instance, |s| s.fact == Fact::Stopped && s.cause == Cause::Pressure).await;
}

#[tokio::test]
async fn a_sleeper_starts_only_when_others_have_made_room() {
    let platform = FakePlatform::new(&[]).await;
    let ann = platform.settle_in("ann").await;
    platform.wait(HALF_AN_HOUR).await;
    let ben = platform.settle_in("ben").await;
    platform.clock.advance(QUIET);
    run_short(&platform, &[&ben]).await;
    let starts = platform.host.calls(Verb::Start);
    platform.clock.advance(Duration::from_secs(1));
    platform.instances().wake(&ann.instance, Cause::Visit).await.unwrap();
    until(&ben.instance, |s| s.fact == Fact::Frozen && s.cause == Cause::Pressure).await;
    assert_eq!(platform.host.calls(Verb::Start), starts, "nothing starts before there is room");
    platform.host.set_load(|load| load.memory_available = load.memory_total);
    until(&ann.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_herd_wakes_in_the_order_of_asking_no_more_at_a_time_than_may() {
    const HANDLES: [&str; 6] = ["ann", "ben", "cid", "dora", "emil", "fay"];
    let platform = FakePlatform::new(&[("BERTH_STARTS_AT_ONCE", "1")]).await;
    let mut herd = Vec::new();
    for handle in HANDLES {
        herd.push(platform.settle_in(handle).await);
    }
    platform.wait(HALF_AN_HOUR).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    for one in &herd {
        platform.instances().wake(&one.instance, Cause::Visit).await.unwrap();
        // Asked one after the other: each is on its way before the next.
        until(&one.instance, |s| s.fact == Fact::Waking).await;
    }
    let starts = platform.host.calls(Verb::Start);
    let mut order = Vec::new();
    for _ in &herd {
        platform.host.until_held(Verb::Start).await;
        assert!(platform.host.calls(Verb::Start) - starts <= 1 + order.len());
        platform.host.let_one_pass(Verb::Start);
        let woken = async {
            loop {
                let awake = |one: &&Person| one.instance.fact() == Fact::Awake && !order.contains(&one.handle);
                if let Some(one) = herd.iter().find(awake) {
                    return one.handle;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        order.push(tokio::time::timeout(Duration::from_secs(20), woken).await.expect("one was let pass"));
    }
    assert_eq!(order, HANDLES);
}
