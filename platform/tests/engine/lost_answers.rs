//! Faults between platform, provisioner and Engine: answers about one instance are dropped, delayed or doubled. Other
//! instances are not affected, and afterwards no container is missing or there twice.

use std::time::Duration;

use berth::instances::{Cause, Fact};

use berth_testing::engine_platform::{EnginePlatform, Ground};
use berth_testing::fake_platform::until;
use berth_testing::fault_proxy::{Deed, FaultGate, FaultProxy, FaultTiming};
use berth_testing::person::Person;
use berth_testing::soak::SoakTest;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
/// Longer than the longest backoff after a failure.
const OVER: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_one_instance_do_not_delay_others_and_it_wakes_once_they_end() {
    let mut long = SoakTest::story("lost_answers");
    let platform = engine_platform().await;
    let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
    let mut cases = Vec::new();
    for sleep in [FIVE_MINUTES, HALF_AN_HOUR] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            for (word, deed) in [
                ("dropped", Deed::Drop),
                ("failed", Deed::Fail),
                ("said twice", Deed::Twice),
                ("late", Deed::Delay(Duration::from_millis(200))),
            ] {
                for engine in [false, true] {
                    cases.push((sleep, moment, word, deed.clone(), engine));
                }
            }
        }
    }
    long.shuffle(&mut cases);
    cases.truncate(long.count(6, cases.len()));
    for (sleep, moment, word, deed, engine) in cases {
        let (proxy, who) =
            if engine { (&platform.to_engine, "Engine") } else { (&platform.to_provisioner, "provisioner") };
        let case = format!("what the {who} hears of alice is {word}, {moment:?}, after {sleep:?}");
        long.say(&case);
        platform.wait(sleep).await;
        assert!(!bob.instance.is_awake(), "{case}");
        proxy.points.always_about(&alice.instance.id.to_string(), moment, deed);
        let (_, others) = tokio::join!(platform.visit(&alice, "/count"), platform.visit(&bob, "/count"));
        assert_eq!(others.status, 200, "{case}: {}", others.text());
        proxy.points.clear();
        platform.wait(OVER).await;
        platform.ask(&alice, "/count").await;
        until(&alice.instance, |status| status.fact == Fact::Awake).await;
        platform.instances().settled().await;
        assert_eq!(platform.ground.containers().len(), 2, "{case}: one each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_delays_neither_other_wakes_nor_rounds() {
    let platform = EnginePlatform::on(Ground { network: "hangs", subnet: "10.96.0.0", engine: ENGINE.into() }).await;
    let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
    for proxy in [&platform.to_provisioner, &platform.to_engine] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            platform.wait(HALF_AN_HOUR).await;
            let hold = hang(proxy, &alice, moment);
            let waiting = platform.instances().wake(&alice.instance, Cause::Visit).await;
            assert!(waiting.is_ok() && hold.is_met_within(Duration::from_secs(20)).await);
            platform.ask(&bob, "/count").await;
            platform.instances().round().await;
            assert!(!alice.instance.is_awake(), "its call has not been answered yet");
            hold.release();
            proxy.points.clear();
            platform.ask(&alice, "/count").await;
            platform.instances().settled().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_hangs_and_event_streams_that_end_block_no_wake() {
    let platform = EnginePlatform::on(Ground { network: "lists", subnet: "10.88.0.0", engine: ENGINE.into() }).await;
    let bob = platform.settle_in("bob").await;
    platform.wait(HALF_AN_HOUR).await;
    let hold = FaultGate::default();
    platform.to_provisioner.points.once("list", FaultTiming::Before, Deed::Hold(hold.clone()));
    let round = tokio::spawn({
        let instances = platform.instances().clone();
        async move { instances.round().await }
    });
    assert!(hold.is_met_within(Duration::from_secs(20)).await);
    platform.ask(&bob, "/count").await;
    hold.release();
    round.await.unwrap();
    // The event streams end at once, so only the periodic list finds the change.
    platform.to_provisioner.points.always("events", FaultTiming::After, Deed::Drop);
    platform.to_engine.points.always("events", FaultTiming::After, Deed::Drop);
    platform.wait(FIVE_MINUTES).await;
    assert_eq!(bob.instance.fact(), Fact::Frozen);
    platform.ask(&bob, "/count").await;
}

const ENGINE: &str = "/var/run/docker.sock";

async fn engine_platform() -> EnginePlatform {
    EnginePlatform::on(Ground { network: "lost", subnet: "10.92.0.0", engine: ENGINE.into() }).await
}

/// Holds every request about the person's instance, or every answer.
fn hang(proxy: &FaultProxy, person: &Person, moment: FaultTiming) -> FaultGate {
    let hold = FaultGate::default();
    proxy.points.always_about(&person.instance.id.to_string(), moment, Deed::Hold(hold.clone()));
    hold
}
