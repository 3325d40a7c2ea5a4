//! The host's clock is set forward an hour, back an hour, forward a day, in the middle of everything.

use std::time::Duration;

use berth::containers::HostError;
use berth::containers::fake::Verb;
use berth::instances::{Cause, Fact, Wish};

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, Person, until};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

/// Which way the clock is set.
#[derive(Clone, Copy, Debug)]
enum Jump {
    Forward(Duration),
    Back(Duration),
}

const JUMPS: [Jump; 3] = [Jump::Forward(HOUR), Jump::Back(HOUR), Jump::Forward(DAY)];

fn jump(platform: &FakePlatform, jump: Jump) {
    match jump {
        Jump::Forward(by) => platform.clock.advance(by),
        Jump::Back(by) => platform.clock.turn_back(by),
    }
}

#[tokio::test]
async fn a_wish_is_followed_whatever_the_clock_did_since_the_last_one() {
    for database in databases().await {
        let mut platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        for by in JUMPS {
            platform.clock.advance(Duration::from_secs(1));
            wake(&platform, &alice).await;
            jump(&platform, by);
            platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
            until(&alice.instance, |s| (s.wish, s.fact) == (Wish::Stopped, Fact::Stopped)).await;
            wake(&platform, &alice).await;
            // A wish that another process wrote is found too.
            let tx = platform.app.db.begin().await.unwrap();
            platform.instances().suspend_in(&tx, alice.instance.account).await.unwrap();
            tx.commit().await.unwrap();
            platform.look().await;
            until(&alice.instance, |s| (s.wish, s.fact) == (Wish::Suspended, Fact::Stopped)).await;
            let tx = platform.app.db.begin().await.unwrap();
            platform.instances().restore_in(&tx, alice.instance.account).await.unwrap();
            tx.commit().await.unwrap();
            platform.look().await;
            until(&alice.instance, |s| s.wish == Wish::Stopped).await;
        }
        // And by the next process.
        platform.instances().settled().await;
        platform.restart().await;
        let instance = platform.instances().all().pop().unwrap();
        assert_eq!((instance.status().wish, instance.fact()), (Wish::Stopped, Fact::Stopped));
    }
}

#[tokio::test]
async fn one_that_failed_is_tried_again_after_its_pause_and_one_that_is_idle_sleeps() {
    for by in JUMPS {
        let platform = FakePlatform::new(&[]).await;
        let alice = platform.settle_in("alice").await;
        platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
        until(&alice.instance, |s| s.fact == Fact::Stopped).await;
        platform.instances().settled().await;
        platform.host.fail_next(Verb::Start, HostError::Timeout);
        platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
        until(&alice.instance, |s| s.fact == Fact::Failed).await;
        platform.instances().settled().await;
        jump(&platform, by);
        platform.wait(Duration::from_secs(61)).await;
        platform.visit(&alice.instance).await;
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        jump(&platform, by);
        platform.look().await;
        platform.wait(FIVE_MINUTES).await;
        platform.wait(FIVE_MINUTES).await;
        assert!(!alice.instance.is_awake(), "{by:?}: idle for ten minutes, it is {:?}", alice.instance.status());
    }
}

#[tokio::test]
async fn no_session_that_had_ended_comes_back() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let stands = async || {
            let token = alice.signed_in.session.reveal();
            platform.app.accounts.authenticate("app.example.com", token).await.unwrap().is_some()
        };
        assert!(stands().await);
        platform.clock.turn_back(HOUR);
        platform.clock.advance(HOUR);
        assert!(stands().await, "a clock that is put right ends nobody's session");
        for _ in 0..60 {
            platform.clock.advance(DAY);
        }
        assert!(!stands().await, "two months later it has ended");
        for _ in 0..60 {
            platform.clock.turn_back(DAY);
        }
        assert!(!stands().await, "and what has ended stays so");
    }
}

async fn wake(platform: &FakePlatform, person: &Person) {
    platform.instances().wake(&person.instance, Cause::OwnerAsked).await.unwrap();
    until(&person.instance, |s| s.fact == Fact::Awake).await;
    platform.instances().settled().await;
}
