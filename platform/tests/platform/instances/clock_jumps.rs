//! Clock jumps: wishes, backoff, idle timeouts and sessions stay correct when the host's clock is set forward an hour,
//! back an hour, or forward a day.

use std::time::Duration;

use berth::instances::{Cause, Fact, Wish};
use berth_containers::HostError;
use berth_containers::fake::Verb;

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

/// A change of the host's clock.
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
async fn a_new_wish_is_followed_after_the_clock_jumped() {
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
            // The reconciler also finds a wish that another process wrote.
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
        // The next process reads the same wish and fact.
        platform.instances().settled().await;
        platform.restart().await;
        let instance = platform.instances().all().pop().unwrap();
        assert_eq!((instance.status().wish, instance.fact()), (Wish::Stopped, Fact::Stopped));
    }
}

#[tokio::test]
async fn a_failed_start_is_retried_after_its_backoff_and_an_idle_instance_sleeps_after_the_clock_jumped() {
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
async fn a_session_that_expired_stays_expired_when_the_clock_is_set_back() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let is_live = async || {
            let token = alice.session();
            platform.app.accounts.authenticate("app.example.com", token).await.unwrap().is_some()
        };
        assert!(is_live().await);
        platform.clock.turn_back(HOUR);
        platform.clock.advance(HOUR);
        assert!(is_live().await, "correcting the clock ends no session");
        for _ in 0..60 {
            platform.clock.advance(DAY);
        }
        assert!(!is_live().await, "two months later it has ended");
        for _ in 0..60 {
            platform.clock.turn_back(DAY);
        }
        assert!(!is_live().await, "a session that has ended stays ended");
    }
}

async fn wake(platform: &FakePlatform, person: &Person) {
    platform.instances().wake(&person.instance, Cause::OwnerAsked).await.unwrap();
    until(&person.instance, |s| s.fact == Fact::Awake).await;
    platform.instances().settled().await;
}
