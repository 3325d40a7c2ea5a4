//! When the host's memory runs short: who sleeps, who may start, and in which order.

use std::time::Duration;

use berth::containers::ContainerHost as _;
use berth::containers::ContainerLoad;
use berth::containers::fake::{HoldPoint, Verb};
use berth::instances::{Cause, Fact, Work};

use berth_testing::fake_platform::{FakePlatform, Person, until};

/// What moved within this time is in flight.
const QUIET: Duration = Duration::from_secs(10);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// Half of what must stay free is missing, and every instance holds twice that.
async fn run_short(town: &FakePlatform, residents: &[&Person]) {
    let mut containers = Vec::new();
    for resident in residents {
        let seen = town.host.inspect(resident.instance.id).await.unwrap();
        containers.push(ContainerLoad { id: seen.container.unwrap().id, cpu: Duration::ZERO, memory: 2 << 30 });
    }
    town.host.set_load(|load| {
        load.memory_available = load.memory_total / 20;
        load.containers = containers;
    });
}

async fn relieve(town: &FakePlatform) {
    let load = town.host.load().await.unwrap();
    town.instances().relieve(&load);
    town.instances().settled().await;
}

#[tokio::test]
async fn who_was_used_longest_ago_sleeps_first_and_work_in_flight_never() {
    let town = FakePlatform::new(&[]).await;
    let ann = town.settle_in("ann").await;
    let working = ann.instance.begin_work(Work::Request);
    town.clock.advance(Duration::from_secs(1));
    let ben = town.settle_in("ben").await;
    town.clock.advance(Duration::from_secs(1));
    let cid = town.settle_in("cid").await;
    town.clock.advance(QUIET);
    run_short(&town, &[&ann, &ben, &cid]).await;
    relieve(&town).await;
    assert_eq!(
        [&ann, &ben, &cid].map(|one| one.instance.fact()),
        [Fact::Awake, Fact::Frozen, Fact::Awake],
        "one is enough, and the first of those who do nothing"
    );
    assert_eq!(ben.instance.status().cause, Cause::Pressure);
    drop(working);
    // Used again, it is as good as any other.
    town.host.set_load(|load| load.memory_available = load.memory_total);
    town.clock.advance(Duration::from_secs(1));
    town.instances().wake(&ben.instance, Cause::Visit).await.unwrap();
    until(&ben.instance, |s| s.fact == Fact::Awake).await;
    town.look().await;
    assert_eq!(ben.instance.fact(), Fact::Awake);
}

#[tokio::test]
async fn without_swap_it_is_stopped_because_freezing_would_free_nothing() {
    let town = FakePlatform::new(&[]).await;
    let ann = town.settle_in("ann").await;
    town.clock.advance(QUIET);
    run_short(&town, &[&ann]).await;
    town.host.set_load(|load| load.swap_free = 0);
    relieve(&town).await;
    until(&ann.instance, |s| s.fact == Fact::Stopped && s.cause == Cause::Pressure).await;
}

#[tokio::test]
async fn a_sleeper_starts_only_when_others_have_made_room() {
    let town = FakePlatform::new(&[]).await;
    let ann = town.settle_in("ann").await;
    town.wait(HALF_AN_HOUR).await;
    let ben = town.settle_in("ben").await;
    town.clock.advance(QUIET);
    run_short(&town, &[&ben]).await;
    let starts = town.host.calls(Verb::Start);
    town.clock.advance(Duration::from_secs(1));
    town.instances().wake(&ann.instance, Cause::Visit).await.unwrap();
    until(&ben.instance, |s| s.fact == Fact::Frozen && s.cause == Cause::Pressure).await;
    assert_eq!(town.host.calls(Verb::Start), starts, "nothing starts before there is room");
    town.host.set_load(|load| load.memory_available = load.memory_total);
    until(&ann.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_herd_wakes_in_the_order_of_asking_no_more_at_a_time_than_may() {
    const HANDLES: [&str; 6] = ["ann", "ben", "cid", "dora", "emil", "fay"];
    let town = FakePlatform::new(&[("BERTH_STARTS_AT_ONCE", "1")]).await;
    let mut herd = Vec::new();
    for handle in HANDLES {
        herd.push(town.settle_in(handle).await);
    }
    town.wait(HALF_AN_HOUR).await;
    town.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    for one in &herd {
        town.instances().wake(&one.instance, Cause::Visit).await.unwrap();
        // Asked one after the other: each is on its way before the next.
        until(&one.instance, |s| s.fact == Fact::Waking).await;
    }
    let starts = town.host.calls(Verb::Start);
    let mut order = Vec::new();
    for _ in &herd {
        town.host.until_held(Verb::Start).await;
        assert!(town.host.calls(Verb::Start) - starts <= 1 + order.len());
        town.host.let_one_pass(Verb::Start);
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
