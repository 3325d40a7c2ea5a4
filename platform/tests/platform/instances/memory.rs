//! Memory pressure on the host: which instances sleep, which may start, and in which order.

use std::time::Duration;

use berth::instances::{Cause, Fact, Work};
use berth_containers::ContainerHost as _;
use berth_containers::ContainerLoad;
use berth_containers::fake::{HoldPoint, Verb};

use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;
use berth_testing::wait::eventually_some;

/// An instance with traffic within this time counts as busy.
const QUIET: Duration = Duration::from_secs(10);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// Half of the reserve of free memory is missing, and every instance holds twice that amount.
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
async fn under_pressure_the_least_recently_used_instance_sleeps_first_and_a_busy_one_never() {
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
        "freezing one is enough: the first of the idle ones"
    );
    assert_eq!(ben.instance.status().cause, Cause::Pressure);
    drop(working);
    // After a visit it ranks like any other instance.
    platform.host.set_load(|load| load.memory_available = load.memory_total);
    platform.clock.advance(Duration::from_secs(1));
    platform.instances().wake(&ben.instance, Cause::Visit).await.unwrap();
    until(&ben.instance, |s| s.fact == Fact::Awake).await;
    platform.look().await;
    assert_eq!(ben.instance.fact(), Fact::Awake);
}

#[tokio::test]
async fn without_swap_an_instance_is_stopped_because_freezing_would_free_nothing() {
    let platform = FakePlatform::new(&[]).await;
    let ann = platform.settle_in("ann").await;
    platform.clock.advance(QUIET);
    run_short(&platform, &[&ann]).await;
    platform.host.set_load(|load| load.swap_free = 0);
    relieve(&platform).await;
    until(&ann.instance, |s| s.fact == Fact::Stopped && s.cause == Cause::Pressure).await;
}

#[tokio::test]
async fn a_start_waits_until_enough_memory_is_free() {
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
    assert_eq!(platform.host.calls(Verb::Start), starts, "nothing starts before memory is free");
    platform.host.set_load(|load| load.memory_available = load.memory_total);
    until(&ann.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn instances_start_in_the_order_of_their_requests_within_the_limit_of_starts() {
    const HANDLES: [&str; 6] = ["ann", "ben", "cid", "dora", "emil", "fay"];
    let platform = FakePlatform::new(&[("BERTH_STARTS_AT_ONCE", "1")]).await;
    let mut people = Vec::new();
    for handle in HANDLES {
        people.push(platform.settle_in(handle).await);
    }
    platform.wait(HALF_AN_HOUR).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    for one in &people {
        platform.instances().wake(&one.instance, Cause::Visit).await.unwrap();
        // One request after the other: each instance is waking before the next request.
        until(&one.instance, |s| s.fact == Fact::Waking).await;
    }
    let starts = platform.host.calls(Verb::Start);
    let mut order = Vec::new();
    for _ in &people {
        platform.host.until_held(Verb::Start).await;
        assert!(platform.host.calls(Verb::Start) - starts <= 1 + order.len());
        platform.host.let_one_pass(Verb::Start);
        let woken = async || {
            let awake = |one: &&Person| one.instance.fact() == Fact::Awake && !order.contains(&one.handle);
            people.iter().find(awake).map(|one| one.handle.clone())
        };
        let handle = eventually_some("the released start makes its instance awake", woken).await;
        order.push(handle);
    }
    assert_eq!(order, HANDLES);
}
