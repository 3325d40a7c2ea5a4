//! Sleeping and waking again and again, on the Engine and by itself: files are whole, what was in memory survives
//! freezing, and whoever changes their mind in the middle gets what they asked for last.

use std::time::Duration;

use berth::accounts::AccountState;
use berth::instances::{Cause, Fact, Wish};

use berth_testing::engine_platform::{EnginePlatform, Ground, Person};
use berth_testing::fake_platform::until;
use berth_testing::fault_proxy::{Deed, FaultGate, FaultTiming};
use berth_testing::soak::SoakTest;

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
            // A hundred cycles take longer than a login on the instance's host stands.
            platform.hand_off(&mut alice).await;
        }
        assert_eq!(platform.ask(&alice, "/count").await, count.to_string(), "what it had in memory, in cycle {cycle}");
        assert_eq!(platform.ask(&alice, "/sum/home/berth/keep").await, sum, "its file, in cycle {cycle}");
        count += 1;
        platform.instances().settled().await;
    }
    long.say(&format!("{cycles} cycles, {frozen} frozen and {stopped} stopped: every file whole, nothing forgotten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_while_it_freezes_is_answered_and_nothing_is_forgotten() {
    let platform = engine_platform("freezes", "10.85.0.0").await;
    let alice = platform.settle_in("alice").await;
    for (number, moment) in [FaultTiming::Before, FaultTiming::After].into_iter().enumerate() {
        let hold = trap(&platform, "freeze", moment);
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
async fn asked_to_sleep_while_it_wakes_it_sleeps_and_the_next_visit_wakes_it() {
    let platform = engine_platform("thaws", "10.86.0.0").await;
    let alice = platform.settle_in("alice").await;
    for (asleep, verb, how, fact) in [
        (FIVE_MINUTES, "thaw", Wish::Frozen, Fact::Frozen),
        (FIVE_MINUTES, "thaw", Wish::Stopped, Fact::Stopped),
        (HALF_AN_HOUR, "start", Wish::Stopped, Fact::Stopped),
        // What never answered is not frozen: it starts afresh at the next wake.
        (HALF_AN_HOUR, "start", Wish::Frozen, Fact::Stopped),
    ] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            platform.wait(asleep).await;
            let hold = trap(&platform, verb, moment);
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
async fn taken_away_while_it_wakes_it_goes_and_its_files_stay() {
    let platform = engine_platform("goes", "10.87.0.0").await;
    let alice = platform.settle_in("alice").await;
    let sum = platform.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (asleep, verb) in [(FIVE_MINUTES, "thaw"), (HALF_AN_HOUR, "start")] {
        for moment in [FaultTiming::Before, FaultTiming::After] {
            platform.wait(asleep).await;
            let hold = trap(&platform, verb, moment);
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
async fn deleted_while_it_wakes_it_stops_and_then_nothing_of_it_is_left() {
    let platform = engine_platform("leaves", "10.83.0.0").await;
    for (handle, asleep, verb, moment) in [
        ("ann", FIVE_MINUTES, "thaw", FaultTiming::Before),
        ("ben", FIVE_MINUTES, "thaw", FaultTiming::After),
        ("cid", HALF_AN_HOUR, "start", FaultTiming::Before),
        ("dora", HALF_AN_HOUR, "start", FaultTiming::After),
    ] {
        let person = platform.settle_in(handle).await;
        platform.wait(asleep).await;
        let hold = trap(&platform, verb, moment);
        platform.instances().wake(&person.instance, Cause::Visit).await.unwrap();
        assert!(hold.is_met_within(MET).await);
        platform.clock.advance(Duration::from_secs(1));
        platform.app.accounts.schedule_deletion_of(&person.instance.handle, "operator").await.unwrap();
        hold.release();
        until(&person.instance, |status| status.fact == Fact::Stopped).await;
        platform.instances().settled().await;
        assert_ne!(platform.visit(&person, "/count").await.status, 200, "{handle} is on the way out");
        let gone = async {
            while platform.instances().by_handle(&person.instance.handle).is_some() {
                platform.clock.advance(Duration::from_secs(1));
                platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(MET, gone).await.unwrap_or_else(|_| panic!("{handle} is never gone"));
        assert_eq!((platform.ground.containers(), platform.ground.volumes()), (Vec::new(), Vec::new()), "{handle}");
        let account = platform.app.accounts.account(&person.instance.handle).await.unwrap();
        assert_eq!(account.state, AccountState::Deleted, "{handle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_is_answered_however_long_it_slept_and_whatever_happened_to_the_host() {
    let mut platform = engine_platform("sleeps", "10.84.0.0").await;
    let mut alice = platform.settle_in("alice").await;
    let sum = platform.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (minutes, reboots) in [(45, false), (24 * 60, false), (10, true), (45, true), (24 * 60, true)] {
        platform.wait(Duration::from_secs(minutes * 60)).await;
        if reboots {
            // Nothing runs any more, and the platform starts anew.
            reboot(&platform, &alice);
            platform.restart().await;
        }
        platform.hand_off(&mut alice).await;
        assert_eq!(platform.ask(&alice, "/sum/home/berth/keep").await, sum, "after {minutes} minutes, {reboots}");
        platform.instances().settled().await;
        assert_eq!(platform.ground.containers().len(), 1);
    }
}

async fn engine_platform(network: &'static str, subnet: &'static str) -> EnginePlatform {
    EnginePlatform::on(Ground { network, subnet, engine: ENGINE.into() }).await
}

/// Holds the next call of `verb` on its way to the provisioner, or its answer.
fn trap(platform: &EnginePlatform, verb: &str, moment: FaultTiming) -> FaultGate {
    let hold = FaultGate::default();
    platform.to_provisioner.points.once(verb, moment, Deed::Hold(hold.clone()));
    hold
}

/// What a power cut does to a container: its processes are gone, frozen or not.
fn reboot(platform: &EnginePlatform, person: &Person) {
    let name = platform.ground.name(person);
    match platform.ground.docker(&["inspect", "--format", "{{.State.Status}}", &name]).trim() {
        "paused" => drop(platform.ground.docker(&["unpause", &name])),
        "running" => {}
        _ => return,
    }
    platform.ground.docker(&["kill", &name]);
}
