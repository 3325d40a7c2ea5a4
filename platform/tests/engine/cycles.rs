//! Sleep and wake cycles on a real Engine: files stay whole, memory survives freezing, and a wish that arrives in the
//! middle of a transition is followed.

use std::time::Duration;

use berth::accounts::AccountState;
use berth::instances::{Cause, Fact, Wish};

use berth_testing::engine_platform::{EnginePlatform, Ground};
use berth_testing::fake_platform::until;
use berth_testing::fault_proxy::{Deed, FaultGate, FaultTiming};
use berth_testing::person::Person;
use berth_testing::soak::SoakTest;
use berth_testing::wait::Wait;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
const ENGINE: &str = "/var/run/docker.sock";
const MET: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sleeps_and_wakes_lose_neither_files_nor_memory() {
    let mut long = SoakTest::story("cycles");
    let cycles = long.count(8, 100);
    let platform = engine_platform("cycles", "10.99.0.0").await;
    let mut alice = platform.settle_in("alice").await;
    let sum = platform.ask(&alice, &format!("/keep/1024/{}/home/berth/keep", long.below(1 << 30))).await;
    let (mut count, mut frozen, mut stopped) = (0, 0, 0);
    for cycle in 1..=cycles {
        let stops = cycle % 5 == 0;
        platform.wait(if stops { HALF_AN_HOUR } else { FIVE_MINUTES }).await;
        if stops {
            assert_eq!(alice.instance.fact(), Fact::Stopped, "in cycle {cycle}");
            (count, stopped) = (0, stopped + 1);
        } else {
            assert_eq!(alice.instance.fact(), Fact::Frozen, "in cycle {cycle}");
            frozen += 1;
        }
        if cycle % 20 == 0 {
            // A hundred cycles take longer than a session on the instance's host lasts.
            alice.hand_off(&platform.app).await;
        }
        assert_eq!(platform.ask(&alice, "/count").await, count.to_string(), "what it had in memory, in cycle {cycle}");
        assert_eq!(platform.ask(&alice, "/sum/home/berth/keep").await, sum, "its file, in cycle {cycle}");
        count += 1;
        platform.instances().settled().await;
    }
    long.say(&format!("{cycles} cycles, {frozen} frozen and {stopped} stopped: every file whole, nothing forgotten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_during_a_freeze_is_answered_from_the_same_memory() {
    let platform = engine_platform("freezes", "10.85.0.0").await;
    let alice = platform.settle_in("alice").await;
    for (number, moment) in [FaultTiming::Before, FaultTiming::After].into_iter().enumerate() {
        let hold = hold_next(&platform, "freeze", moment);
        platform.clock.advance(FIVE_MINUTES);
        platform.instances().round().await;
        assert!(hold.is_met_within(MET).await);
        assert_eq!(alice.instance.fact(), Fact::Freezing);
        let visit = platform.ask(&alice, "/count");
        let (answer, ()) = tokio::join!(visit, async { hold.release() });
        assert_eq!(answer, number.to_string());
        until(&alice.instance, |status| status.fact == Fact::Awake).await;
        platform.instances().settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_sleep_during_a_wake_is_followed_and_the_next_visit_wakes() {
    let platform = engine_platform("thaws", "10.86.0.0").await;
    let alice = platform.settle_in("alice").await;
    for (asleep, verb, how, fact) in [
        (FIVE_MINUTES, "thaw", Wish::Frozen, Fact::Frozen),
        (FIVE_MINUTES, "thaw", Wish::Stopped, Fact::Stopped),
        (HALF_AN_HOUR, "start", Wish::Stopped, Fact::Stopped),
        // An instance that never became ready is stopped rather than frozen.
        (HALF_AN_HOUR, "start", Wish::Frozen, Fact::Stopped),
    ] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            platform.wait(asleep).await;
            let hold = hold_next(&platform, verb, moment);
            platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
            assert!(hold.is_met_within(MET).await);
            platform.clock.advance(Duration::from_secs(1));
            platform.instances().sleep(&alice.instance, how, Cause::OwnerAsked).await.unwrap();
            hold.release();
            until(&alice.instance, |status| status.fact == fact).await;
            platform.instances().settled().await;
            platform.clock.advance(Duration::from_secs(1));
            platform.ask(&alice, "/count").await;
            platform.instances().settled().await;
            assert_eq!(platform.ground.containers().len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_removed_during_a_wake_keeps_its_files() {
    let platform = engine_platform("goes", "10.87.0.0").await;
    let alice = platform.settle_in("alice").await;
    let sum = platform.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (asleep, verb) in [(FIVE_MINUTES, "thaw"), (HALF_AN_HOUR, "start")] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            platform.wait(asleep).await;
            let hold = hold_next(&platform, verb, moment);
            platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
            assert!(hold.is_met_within(MET).await);
            platform.clock.advance(Duration::from_secs(1));
            platform.instances().sleep(&alice.instance, Wish::Removed, Cause::OperatorAsked).await.unwrap();
            hold.release();
            until(&alice.instance, |status| status.fact == Fact::Removed).await;
            platform.instances().settled().await;
            assert_eq!(platform.ground.containers(), Vec::<String>::new());
            assert_eq!(platform.visit(&alice, "/count").await.status, 403);
            platform.clock.advance(Duration::from_secs(1));
            platform.instances().wake(&alice.instance, Cause::OperatorAsked).await.unwrap();
            assert_eq!(platform.ask(&alice, "/sum/home/berth/keep").await, sum);
            platform.instances().settled().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_deleted_during_a_wake_leaves_nothing() {
    let platform = engine_platform("leaves", "10.83.0.0").await;
    for (handle, asleep, verb, moment) in [
        ("ann", FIVE_MINUTES, "thaw", FaultTiming::Before),
        ("ben", FIVE_MINUTES, "thaw", FaultTiming::After),
        ("cid", HALF_AN_HOUR, "start", FaultTiming::Before),
        ("dora", HALF_AN_HOUR, "start", FaultTiming::After),
    ] {
        let person = platform.settle_in(handle).await;
        platform.wait(asleep).await;
        let hold = hold_next(&platform, verb, moment);
        platform.instances().wake(&person.instance, Cause::Visit).await.unwrap();
        assert!(hold.is_met_within(MET).await);
        platform.clock.advance(Duration::from_secs(1));
        platform.app.accounts.schedule_deletion_of(&person.instance.handle, "operator").await.unwrap();
        hold.release();
        until(&person.instance, |status| status.fact == Fact::Stopped).await;
        platform.instances().settled().await;
        assert_ne!(platform.visit(&person, "/count").await.status, 200, "{handle} is on the way out");
        // The provisioner counts the grace period by the system clock, so this takes a real second.
        let wait = Wait::within(MET).every(Duration::from_millis(100));
        let is_deleted = async || {
            platform.clock.advance(Duration::from_secs(1));
            platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap();
            platform.instances().by_handle(&person.instance.handle).is_none()
        };
        wait.until(&format!("{handle} is deleted"), is_deleted).await;
        assert_eq!((platform.ground.containers(), platform.ground.volumes()), (Vec::new(), Vec::new()), "{handle}");
        let account = platform.app.accounts.account(&person.instance.handle).await.unwrap();
        assert_eq!(account.state, AccountState::Deleted, "{handle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_is_answered_after_any_sleep_and_after_a_reboot() {
    let mut platform = engine_platform("sleeps", "10.84.0.0").await;
    let mut alice = platform.settle_in("alice").await;
    let sum = platform.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (minutes, reboots) in [(45, false), (24 * 60, false), (10, true), (45, true), (24 * 60, true)] {
        platform.wait(Duration::from_secs(minutes * 60)).await;
        if reboots {
            // No container runs after a reboot, and the platform starts again.
            reboot(&platform, &alice);
            platform.restart().await;
        }
        alice.hand_off(&platform.app).await;
        assert_eq!(platform.ask(&alice, "/sum/home/berth/keep").await, sum, "after {minutes} minutes, {reboots}");
        platform.instances().settled().await;
        assert_eq!(platform.ground.containers().len(), 1);
    }
}

async fn engine_platform(network: &'static str, subnet: &'static str) -> EnginePlatform {
    EnginePlatform::on(Ground { network, subnet, engine: ENGINE.into() }).await
}

/// Holds the next call of `verb` on its way to the provisioner, or its answer.
fn hold_next(platform: &EnginePlatform, verb: &str, moment: FaultTiming) -> FaultGate {
    let hold = FaultGate::default();
    platform.to_provisioner.points.once(verb, moment, Deed::Hold(hold.clone()));
    hold
}

/// Kills the container's processes, frozen or not, as a power cut does.
fn reboot(platform: &EnginePlatform, person: &Person) {
    let name = platform.ground.name(person);
    match platform.ground.docker(&["inspect", "--format", "{{.State.Status}}", &name]).trim() {
        "paused" => drop(platform.ground.docker(&["unpause", &name])),
        "running" => {}
        _ => return,
    }
    platform.ground.docker(&["kill", &name]);
}
