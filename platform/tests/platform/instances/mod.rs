//! The lifecycle of instances: wishes, idle timeouts, failures, and a platform that is killed at any step.

mod clock_jumps;
mod deletion;
mod fault_injection;
mod memory;
mod upgrades;

use std::time::Duration;

use berth::instances::{Cause, Fact, Instances, Wish, Work};
use berth_containers::fake::{HoldPoint, Verb};
use berth_containers::{ContainerExit, ContainerHost as _, ContainerState, HostError};
use berth_ground::error::Error;

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, until};

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

#[tokio::test]
async fn a_new_instance_is_created_and_becomes_awake() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let seen = platform.host.inspect(alice.instance.id).await.unwrap();
        assert!(seen.volume);
        assert_eq!(seen.container.unwrap().state, ContainerState::Running);
        let spec = platform.host.spec(alice.instance.id).unwrap();
        assert_eq!(spec.url, "https://alice.example.com");
        let by_token = platform.instances().by_token_hash(&berth_ground::secrets::hash(&spec.token)).unwrap();
        assert_eq!(by_token.id, alice.instance.id, "the token in the container is the instance's own");
        assert_eq!(platform.instances().awake_count(), 1);
    }
}

#[tokio::test]
async fn concurrent_sign_ups_get_an_address_each() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let handles = ["ann", "ben", "cid", "dora", "emil", "fay"];
        let people = futures_util::future::join_all(handles.map(|handle| platform.sign_up(handle))).await;
        let mut places: Vec<_> = people.iter().map(|person| person.instance.address()).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), handles.len());
    }
}

#[tokio::test]
async fn an_idle_instance_is_frozen_then_stopped_and_a_visit_wakes_it() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        platform.wait(FIVE_MINUTES - Duration::from_secs(1)).await;
        assert_eq!(alice.instance.fact(), Fact::Awake);
        platform.wait(Duration::from_secs(1)).await;
        assert_eq!(alice.instance.fact(), Fact::Frozen);

        platform.clock.advance(Duration::from_secs(1));
        platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.wait(HALF_AN_HOUR).await;
        assert_eq!(alice.instance.fact(), Fact::Stopped);

        platform.clock.advance(Duration::from_secs(1));
        platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.look().await;
        let history = platform.instances().history(alice.instance.id, 10).await.unwrap();
        let told: Vec<_> = history.iter().map(|t| (t.to, t.cause)).collect();
        assert_eq!(
            told,
            [
                (Fact::Awake, Cause::Visit),
                (Fact::Stopped, Cause::Idle),
                (Fact::Awake, Cause::Visit),
                (Fact::Frozen, Cause::Idle),
                (Fact::Awake, Cause::SignUp),
            ]
        );
    }
}

#[tokio::test]
async fn fact_and_cause_survive_a_restart() {
    for database in databases().await {
        let mut platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        platform.wait(HALF_AN_HOUR).await;
        let recorded = platform.instances().recorded(alice.instance.id).await.unwrap();
        assert_eq!((recorded.fact, recorded.cause), (Fact::Stopped, Cause::Idle));
        platform.restart().await;
        let instance = platform.instances().all().pop().unwrap();
        assert_eq!((instance.fact(), instance.status().cause), (Fact::Stopped, Cause::Idle));

        platform.clock.advance(Duration::from_secs(1));
        platform.instances().wake(&instance, Cause::Visit).await.unwrap();
        until(&instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        platform.restart().await;
        let instance = platform.instances().all().pop().unwrap();
        let status = until(&instance, |s| s.fact == Fact::Awake).await;
        assert_eq!(status.cause, Cause::Visit);
    }
}

#[tokio::test]
async fn work_in_flight_keeps_an_instance_awake_however_long_it_takes() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let work = alice.instance.begin_work(Work::Request);
    platform.wait(HALF_AN_HOUR * 4).await;
    assert_eq!(alice.instance.fact(), Fact::Awake);
    drop(work);
    platform.wait(FIVE_MINUTES).await;
    assert_eq!(alice.instance.fact(), Fact::Frozen);
}

#[tokio::test]
async fn a_hundred_visits_to_a_sleeping_instance_cause_one_start() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.wait(HALF_AN_HOUR).await;
    let before = platform.host.calls(Verb::Start);
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    for _ in 0..100 {
        platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
    }
    platform.host.release(Verb::Start);
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    platform.instances().settled().await;
    assert_eq!(platform.host.calls(Verb::Start) - before, 1);
}

#[tokio::test]
async fn a_wish_to_sleep_is_followed_at_once_and_a_visit_wakes_the_instance_again() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    for (how, fact) in [(Wish::Frozen, Fact::Frozen), (Wish::Stopped, Fact::Stopped)] {
        platform.instances().sleep(&alice.instance, how, Cause::OwnerAsked).await.unwrap();
        let status = until(&alice.instance, |s| s.fact == fact).await;
        assert_eq!(status.cause, Cause::OwnerAsked);
        platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
        let status = until(&alice.instance, |s| s.fact == Fact::Awake).await;
        assert_eq!(status.wish, Wish::Available);
    }
}

#[tokio::test]
async fn a_failed_step_is_reported_in_a_sentence_and_retried() {
    let platform = FakePlatform::new(&[]).await;
    for (error, words) in [
        (HostError::DiskFull, "disk is full"),
        (HostError::ImageMissing("x".into()), "image"),
        (HostError::Timeout, "does not answer"),
    ] {
        platform.host.fail_next(Verb::Create, error);
        let handle = ["ann", "ben", "cid"][usize::from(words == "image") + 2 * usize::from(words == "does not answer")];
        let person = platform.sign_up(handle).await;
        let status = until(&person.instance, |s| s.fact == Fact::Failed).await;
        assert!(status.failure.as_ref().is_some_and(|f| f.contains(words)), "{status:?}");
        platform.instances().settled().await;
        platform.wait(Duration::from_secs(2)).await;
        until(&person.instance, |s| s.fact == Fact::Awake && s.failure.is_none()).await;
    }
}

#[tokio::test]
async fn a_second_failure_replaces_the_first_in_the_database() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        platform.host.fail_next(Verb::Create, HostError::DiskFull);
        platform.host.fail_next(Verb::Create, HostError::ImageMissing("x".into()));
        let alice = platform.sign_up("alice").await;
        until(&alice.instance, |s| s.fact == Fact::Failed).await;
        platform.instances().settled().await;
        platform.wait(Duration::from_secs(1)).await;
        let recorded = platform.instances().recorded(alice.instance.id).await.unwrap();
        assert!(recorded.failure.as_ref().is_some_and(|f| f.contains("image")), "{recorded:?}");
        assert_eq!(recorded.since, platform.clock.now());
        let history = platform.instances().history(alice.instance.id, 10).await.unwrap();
        assert_eq!(history.len(), 1, "the history holds one failure: {history:?}");
    }
}

#[tokio::test]
async fn after_a_kill_at_any_step_one_container_with_its_volume_is_left() {
    for verb in [Verb::EnsureVolume, Verb::Create, Verb::Start, Verb::Inspect] {
        for held in [HoldPoint::BeforeEffect, HoldPoint::AfterEffect] {
            let mut platform = FakePlatform::new(&[]).await;
            // The process dies while this call is in flight and never learns its outcome.
            platform.host.hold(verb, held);
            let id = platform.sign_up("alice").await.instance.id;
            platform.host.until_held(verb).await;
            platform.kill().await;
            platform.host.release(verb);
            platform.start().await;
            let instance = platform.instances().all().pop().unwrap();
            until(&instance, |s| s.fact == Fact::Awake).await;
            platform.look().await;
            let seen = platform.host.list().await.unwrap();
            assert_eq!(seen.len(), 1, "{verb:?} {held:?}: {seen:?}");
            assert!(seen[0].instance == id && seen[0].volume && seen[0].container.is_some());
            let spec = platform.host.spec(id).unwrap();
            assert!(
                platform.instances().by_token_hash(&berth_ground::secrets::hash(&spec.token)).is_some(),
                "{verb:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_unreachable_engine_is_reported_and_the_wake_succeeds_once_it_is_back() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.wait(HALF_AN_HOUR).await;
    platform.host.cut_off();
    platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
    let status = until(&alice.instance, |s| s.fact == Fact::Failed).await;
    assert!(status.failure.unwrap().contains("your files are safe"));
    platform.host.reconnect();
    platform.wait(Duration::from_secs(120)).await;
    until(&alice.instance, |s| matches!(s.fact, Fact::Awake)).await;
}

#[tokio::test]
async fn a_stale_list_of_containers_does_not_undo_a_wake() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.wait(HALF_AN_HOUR).await;
    let stops = platform.host.calls(Verb::Stop);
    platform.host.hold(Verb::List, HoldPoint::AfterEffect);
    let instances = platform.instances().clone();
    let round = tokio::spawn(async move { instances.round().await });
    platform.host.until_held(Verb::List).await;
    platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    platform.instances().settled().await;
    platform.host.release(Verb::List);
    round.await.unwrap();
    platform.instances().settled().await;
    let status = alice.instance.status();
    assert_eq!((status.fact, status.cause), (Fact::Awake, Cause::Visit));
    assert_eq!(platform.host.calls(Verb::Stop), stops);
}

#[tokio::test]
async fn an_instance_that_does_not_settle_does_not_delay_the_platforms_start() {
    let mut platform = FakePlatform::new(&[]).await;
    platform.settle_in("alice").await;
    platform.kill().await;
    platform.host.hold(Verb::Inspect, HoldPoint::BeforeEffect);
    tokio::time::timeout(Duration::from_secs(10), platform.start()).await.expect("the start goes on without it");
    platform.host.release(Verb::Inspect);
    until(&platform.instances().all()[0], |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_container_that_ran_while_the_platform_was_down_counts_as_used_even_when_the_engine_was_unreachable_at_the_start()
 {
    let mut platform = FakePlatform::new(&[]).await;
    platform.settle_in("alice").await;
    platform.kill().await;
    platform.host.cut_off();
    platform.clock.advance(HALF_AN_HOUR);
    platform.start().await;
    let instance = platform.instances().all().pop().unwrap();
    until(&instance, |s| s.fact == Fact::Failed).await;
    platform.host.reconnect();
    until(&instance, |s| s.fact == Fact::Awake).await;
    assert_eq!((platform.host.calls(Verb::Freeze), platform.host.calls(Verb::Stop)), (0, 0));
}

#[tokio::test]
async fn a_container_that_exited_stays_stopped_until_the_next_wake() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let starts = platform.host.calls(Verb::Start);
    platform.host.crash(alice.instance.id, ContainerExit { code: 1, out_of_memory: false });
    until(&alice.instance, |s| s.fact == Fact::Stopped && s.cause == Cause::FoundSo).await;
    platform.look().await;
    assert_eq!(platform.host.calls(Verb::Start), starts);
    platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_suspended_instance_stops_and_cannot_be_woken() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let handle = alice.instance.handle.clone();
    platform.app.accounts.suspend(&handle, "operator").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    for cause in [Cause::Visit, Cause::OwnerAsked, Cause::OperatorAsked] {
        let refused = platform.instances().wake(&alice.instance, cause).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{cause:?}");
    }
    platform.app.accounts.restore(&handle, "operator").await.unwrap();
    platform.instances().wake(&alice.instance, Cause::Visit).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_wake_does_not_undo_a_suspension_by_another_process() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
        platform.clock.advance(Duration::from_secs(1));
        // Written by another process, which died before it notified this one.
        for person in [&alice, &bob] {
            let tx = platform.app.db.begin().await.unwrap();
            platform.instances().suspend_in(&tx, person.instance.account).await.unwrap();
            tx.commit().await.unwrap();
        }
        let refused = platform.instances().wake(&alice.instance, Cause::OwnerAsked).await;
        assert!(matches!(&refused, Err(Error::Forbidden(why)) if why.contains("suspended")), "{refused:?}");
        until(&alice.instance, |s| s.fact == Fact::Stopped).await;

        platform.instances().wake(&bob.instance, Cause::Visit).await.unwrap();
        platform.look().await;
        until(&bob.instance, |s| (s.wish, s.fact) == (Wish::Suspended, Fact::Stopped)).await;
        assert!(matches!(platform.instances().wake(&bob.instance, Cause::Visit).await, Err(Error::Forbidden(_))));
    }
}

#[tokio::test]
async fn a_new_wish_from_another_process_ends_the_backoff() {
    let platform = FakePlatform::new(&[]).await;
    platform.host.fail_next(Verb::Create, HostError::DiskFull);
    let alice = platform.sign_up("alice").await;
    until(&alice.instance, |s| s.fact == Fact::Failed).await;
    platform.instances().settled().await;
    let command = other_process(&platform, &platform).await;
    command.wake(&command.all()[0], Cause::OperatorAsked).await.unwrap();
    platform.instances().load_committed(alice.instance.id).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn a_removed_instance_loses_its_container_and_keeps_its_files() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.instances().sleep(&alice.instance, Wish::Removed, Cause::OperatorAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Removed).await;
    let seen = platform.host.inspect(alice.instance.id).await.unwrap();
    assert!(seen.volume && seen.container.is_none());
    assert!(matches!(platform.instances().wake(&alice.instance, Cause::Visit).await, Err(Error::Forbidden(_))));
    platform.instances().wake(&alice.instance, Cause::OperatorAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

/// The instances of another process on the database of `ledger` and the container host of `world`.
async fn other_process(ledger: &FakePlatform, world: &FakePlatform) -> Instances {
    let host = std::sync::Arc::new(world.host.clone());
    Instances::open(ledger.app.db.clone(), ledger.clock.clone(), host, &ledger.app.config).await.unwrap()
}

#[tokio::test]
async fn an_empty_database_facing_live_containers_refuses_to_start() {
    let platform = FakePlatform::new(&[]).await;
    platform.settle_in("alice").await;
    let other = FakePlatform::new(&[]).await;
    let refused = other_process(&other, &platform).await.begin().await.unwrap_err().to_string();
    assert!(refused.contains("DATABASE_URL"), "{refused}");
}

#[tokio::test]
async fn an_empty_database_removes_no_container_when_the_engine_was_unreachable_at_the_start() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let other = FakePlatform::new(&[]).await;
    let instances = other_process(&other, &platform).await;
    platform.host.cut_off();
    instances.begin().await.unwrap();
    platform.host.reconnect();
    for _ in 0..3 {
        instances.round().await;
        other.clock.advance(Duration::from_secs(10 * 60));
    }
    assert!(platform.host.inspect(alice.instance.id).await.unwrap().container.is_some());
}

#[tokio::test]
async fn an_unknown_container_is_removed_when_seen_twice_and_its_volume_stays() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let mut spec = platform.host.spec(alice.instance.id).unwrap();
    spec.instance = berth::db::InstanceId(platform.clock.uuid());
    spec.slot = berth_containers::Slot(7);
    platform.host.ensure_volume(spec.instance, &spec.size).await.unwrap();
    platform.host.create(&spec).await.unwrap();
    platform.look().await;
    platform.wait(Duration::from_secs(60)).await;
    assert!(platform.host.inspect(spec.instance).await.unwrap().container.is_some(), "one sighting is not enough");
    platform.wait(Duration::from_secs(10 * 60)).await;
    let seen = platform.host.inspect(spec.instance).await.unwrap();
    assert!(seen.volume && seen.container.is_none());
}
