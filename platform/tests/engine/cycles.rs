//! Sleeping and waking again and again, on the Engine and by itself: files are whole, what was in memory survives
//! freezing, and whoever changes their mind in the middle gets what they asked for last.

use std::time::Duration;

use berth::accounts::AccountState;
use berth::instances::{Cause, Fact, Wish};

use berth_testing::engine_platform::{EnginePlatform, Ground, Person};
use berth_testing::fake_platform::until;
use berth_testing::fault_proxy::{Deed, Hold, Moment};
use berth_testing::soak::SoakTest;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
const ENGINE: &str = "/var/run/docker.sock";
const MET: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sleeps_and_wakes_lose_neither_files_nor_memory() {
    let mut long = SoakTest::story("cycles");
    let cycles = long.count(8, 100);
    let hamlet = hamlet("cycles", "10.99.0.0").await;
    let mut alice = hamlet.settle_in("alice").await;
    let sum = hamlet.ask(&alice, &format!("/keep/1024/{}/home/berth/keep", long.below(1 << 30))).await;
    let (mut count, mut frozen, mut stopped) = (0, 0, 0);
    for cycle in 1..=cycles {
        let stops = cycle % 5 == 0;
        hamlet.wait(if stops { HALF_AN_HOUR } else { FIVE_MINUTES }).await;
        if stops {
            assert_eq!(alice.instance.fact(), Fact::Stopped, "in cycle {cycle}");
            (count, stopped) = (0, stopped + 1);
        } else {
            assert_eq!(alice.instance.fact(), Fact::Frozen, "in cycle {cycle}");
            frozen += 1;
        }
        if cycle % 20 == 0 {
            // A hundred cycles take longer than a login on the instance's host stands.
            hamlet.hand_off(&mut alice).await;
        }
        assert_eq!(hamlet.ask(&alice, "/count").await, count.to_string(), "what it had in memory, in cycle {cycle}");
        assert_eq!(hamlet.ask(&alice, "/sum/home/berth/keep").await, sum, "its file, in cycle {cycle}");
        count += 1;
        hamlet.instances().settled().await;
    }
    long.say(&format!("{cycles} cycles, {frozen} frozen and {stopped} stopped: every file whole, nothing forgotten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_while_it_freezes_is_answered_and_nothing_is_forgotten() {
    let hamlet = hamlet("freezes", "10.85.0.0").await;
    let alice = hamlet.settle_in("alice").await;
    for (number, moment) in [Moment::Before, Moment::After].into_iter().enumerate() {
        let hold = trap(&hamlet, "freeze", moment);
        hamlet.clock.advance(FIVE_MINUTES);
        hamlet.instances().round().await;
        assert!(hold.is_met_within(MET).await);
        assert_eq!(alice.instance.fact(), Fact::Freezing);
        let visit = hamlet.ask(&alice, "/count");
        let (answer, ()) = tokio::join!(visit, async { hold.release() });
        assert_eq!(answer, number.to_string());
        until(&alice.instance, |status| status.fact == Fact::Awake).await;
        hamlet.instances().settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_sleep_while_it_wakes_it_sleeps_and_the_next_visit_wakes_it() {
    let hamlet = hamlet("thaws", "10.86.0.0").await;
    let alice = hamlet.settle_in("alice").await;
    for (asleep, verb, how, fact) in [
        (FIVE_MINUTES, "thaw", Wish::Frozen, Fact::Frozen),
        (FIVE_MINUTES, "thaw", Wish::Stopped, Fact::Stopped),
        (HALF_AN_HOUR, "start", Wish::Stopped, Fact::Stopped),
        // What never answered is not frozen: it starts afresh at the next wake.
        (HALF_AN_HOUR, "start", Wish::Frozen, Fact::Stopped),
    ] {
        for moment in [Moment::Before, Moment::After] {
            hamlet.wait(asleep).await;
            let hold = trap(&hamlet, verb, moment);
            hamlet.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
            assert!(hold.is_met_within(MET).await);
            hamlet.clock.advance(Duration::from_secs(1));
            hamlet.instances().sleep(&alice.instance, how, Cause::OwnerAsked).await.unwrap();
            hold.release();
            until(&alice.instance, |status| status.fact == fact).await;
            hamlet.instances().settled().await;
            hamlet.clock.advance(Duration::from_secs(1));
            hamlet.ask(&alice, "/count").await;
            hamlet.instances().settled().await;
            assert_eq!(hamlet.ground.containers().len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_away_while_it_wakes_it_goes_and_its_files_stay() {
    let hamlet = hamlet("goes", "10.87.0.0").await;
    let alice = hamlet.settle_in("alice").await;
    let sum = hamlet.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (asleep, verb) in [(FIVE_MINUTES, "thaw"), (HALF_AN_HOUR, "start")] {
        for moment in [Moment::Before, Moment::After] {
            hamlet.wait(asleep).await;
            let hold = trap(&hamlet, verb, moment);
            hamlet.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
            assert!(hold.is_met_within(MET).await);
            hamlet.clock.advance(Duration::from_secs(1));
            hamlet.instances().sleep(&alice.instance, Wish::Removed, Cause::OperatorAsked).await.unwrap();
            hold.release();
            until(&alice.instance, |status| status.fact == Fact::Removed).await;
            hamlet.instances().settled().await;
            assert_eq!(hamlet.ground.containers(), Vec::<String>::new());
            assert_eq!(hamlet.visit(&alice, "/count").await.status, 403);
            hamlet.clock.advance(Duration::from_secs(1));
            hamlet.instances().wake(&alice.instance, Cause::OperatorAsked).await.unwrap();
            assert_eq!(hamlet.ask(&alice, "/sum/home/berth/keep").await, sum);
            hamlet.instances().settled().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_it_wakes_it_stops_and_then_nothing_of_it_is_left() {
    let hamlet = hamlet("leaves", "10.83.0.0").await;
    for (handle, asleep, verb, moment) in [
        ("ann", FIVE_MINUTES, "thaw", Moment::Before),
        ("ben", FIVE_MINUTES, "thaw", Moment::After),
        ("cid", HALF_AN_HOUR, "start", Moment::Before),
        ("dora", HALF_AN_HOUR, "start", Moment::After),
    ] {
        let villager = hamlet.settle_in(handle).await;
        hamlet.wait(asleep).await;
        let hold = trap(&hamlet, verb, moment);
        hamlet.instances().wake(&villager.instance, Cause::Visit).await.unwrap();
        assert!(hold.is_met_within(MET).await);
        hamlet.clock.advance(Duration::from_secs(1));
        hamlet.app.accounts.schedule_deletion_of(&villager.instance.handle, "operator").await.unwrap();
        hold.release();
        until(&villager.instance, |status| status.fact == Fact::Stopped).await;
        hamlet.instances().settled().await;
        assert_ne!(hamlet.visit(&villager, "/count").await.status, 200, "{handle} is on the way out");
        let gone = async {
            while hamlet.instances().by_handle(&villager.instance.handle).is_some() {
                hamlet.clock.advance(Duration::from_secs(1));
                hamlet.app.accounts.advance_deletions(&hamlet.app.modules).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(MET, gone).await.unwrap_or_else(|_| panic!("{handle} is never gone"));
        assert_eq!((hamlet.ground.containers(), hamlet.ground.volumes()), (Vec::new(), Vec::new()), "{handle}");
        let account = hamlet.app.accounts.account(&villager.instance.handle).await.unwrap();
        assert_eq!(account.state, AccountState::Deleted, "{handle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_is_answered_however_long_it_slept_and_whatever_happened_to_the_host() {
    let mut hamlet = hamlet("sleeps", "10.84.0.0").await;
    let mut alice = hamlet.settle_in("alice").await;
    let sum = hamlet.ask(&alice, "/keep/64/5/home/berth/keep").await;
    for (minutes, reboots) in [(45, false), (24 * 60, false), (10, true), (45, true), (24 * 60, true)] {
        hamlet.wait(Duration::from_secs(minutes * 60)).await;
        if reboots {
            // Nothing runs any more, and the platform starts anew.
            reboot(&hamlet, &alice);
            hamlet.restart().await;
        }
        hamlet.hand_off(&mut alice).await;
        assert_eq!(hamlet.ask(&alice, "/sum/home/berth/keep").await, sum, "after {minutes} minutes, {reboots}");
        hamlet.instances().settled().await;
        assert_eq!(hamlet.ground.containers().len(), 1);
    }
}

async fn hamlet(network: &'static str, subnet: &'static str) -> EnginePlatform {
    EnginePlatform::on(Ground { network, subnet, engine: ENGINE.into() }).await
}

/// Holds the next call of `verb` on its way to the provisioner, or its answer.
fn trap(hamlet: &EnginePlatform, verb: &str, moment: Moment) -> Hold {
    let hold = Hold::default();
    hamlet.to_provisioner.points.once(verb, moment, Deed::Hold(hold.clone()));
    hold
}

/// What a power cut does to a container: its processes are gone, frozen or not.
fn reboot(hamlet: &EnginePlatform, villager: &Person) {
    let name = hamlet.ground.name(villager);
    match hamlet.ground.docker(&["inspect", "--format", "{{.State.Status}}", &name]).trim() {
        "paused" => drop(hamlet.ground.docker(&["unpause", &name])),
        "running" => {}
        _ => return,
    }
    hamlet.ground.docker(&["kill", &name]);
}
