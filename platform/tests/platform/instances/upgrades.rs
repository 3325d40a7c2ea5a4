//! Upgrades: a container of a newer image on the same volume, and a rollback when the newer program does not start.

use std::time::Duration;

use berth::instances::{Cause, Fact, InstanceSettings, STUCK_AFTER, UpgradeOutcome, Wish, Work};
use berth_containers::fake::{HoldPoint, Verb};
use berth_containers::{ContainerExit, ContainerHost as _, ObservedContainer};
use berth_ground::error::Error;

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;

const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
const IMAGE: &str = "berth-instance:latest";

async fn container(platform: &FakePlatform, of: &Person) -> ObservedContainer {
    platform.host.inspect(of.instance.id).await.unwrap().container.unwrap()
}

#[tokio::test]
async fn a_rebuilt_image_reaches_an_instance_at_its_next_start_and_not_before() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let before = container(&platform, &alice).await;
        platform.host.rebuild_image(IMAGE);
        platform.look().await;
        assert_eq!(container(&platform, &alice).await.id, before.id, "a running container is left alone");
        assert!(alice.instance.is_outdated());
        platform.wait(HALF_AN_HOUR).await;
        assert_eq!(alice.instance.fact(), Fact::Stopped);

        platform.visit(&alice.instance).await;
        let status = until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        let after = container(&platform, &alice).await;
        assert!(after.current && after.image_id != before.image_id && after.id != before.id);
        assert_eq!(status.cause, Cause::Visit);
        assert!(!alice.instance.is_outdated());
        let spec = platform.host.spec(alice.instance.id).unwrap();
        assert!(platform.instances().by_token_hash(&berth_ground::secrets::hash(&spec.token)).is_some());
    }
}

#[tokio::test]
async fn a_requested_upgrade_waits_for_work_in_flight_and_then_happens_at_once() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let before = container(&platform, &alice).await;
    platform.host.rebuild_image(IMAGE);
    platform.clock.advance(Duration::from_secs(1));
    let work = alice.instance.begin_work(Work::Request);
    platform.instances().upgrade(&alice.instance).await.unwrap();
    platform.look().await;
    assert_eq!(container(&platform, &alice).await.id, before.id);
    drop(work);
    platform.look().await;
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    let after = container(&platform, &alice).await;
    assert!(after.current && after.id != before.id);
    let history = platform.instances().history(alice.instance.id, 1).await.unwrap();
    assert_eq!(history[0].cause, Cause::SignUp, "the instance is awake as before: an upgrade adds no change of fact");
}

#[tokio::test]
async fn a_newer_container_that_does_not_become_ready_is_rolled_back() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let before = container(&platform, &alice).await;
        platform.wait(HALF_AN_HOUR).await;
        platform.host.rebuild_image(IMAGE);
        platform.look().await;
        platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        platform.visit(&alice.instance).await;
        platform.host.until_held(Verb::Start).await;
        let newer = container(&platform, &alice).await;
        assert_ne!(newer.image_id, before.image_id);
        // The newer program exits right after its start.
        platform.host.breaks_when_started(&newer.image_id, ContainerExit { code: 3, out_of_memory: false });
        platform.host.release(Verb::Start);
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        assert_eq!(container(&platform, &alice).await.image_id, before.image_id);
        // A refused image is not retried, after a sleep either, until its tag points to another one.
        platform.wait(HALF_AN_HOUR).await;
        platform.visit(&alice.instance).await;
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        assert_eq!(container(&platform, &alice).await.image_id, before.image_id);
        platform.wait(HALF_AN_HOUR).await;
        platform.host.rebuild_image(IMAGE);
        platform.look().await;
        platform.visit(&alice.instance).await;
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        let after = container(&platform, &alice).await;
        assert!(after.current && after.image_id != newer.image_id);
    }
}

#[tokio::test]
async fn after_a_kill_at_any_step_of_an_upgrade_one_container_on_the_same_volume_is_left() {
    for verb in [Verb::Create, Verb::Start, Verb::Inspect] {
        for held in [HoldPoint::BeforeEffect, HoldPoint::AfterEffect] {
            for breaks in [false, true] {
                let mut platform = FakePlatform::new(&[]).await;
                let alice = platform.settle_in("alice").await;
                let before = container(&platform, &alice).await;
                platform.wait(HALF_AN_HOUR).await;
                platform.host.rebuild_image(IMAGE);
                platform.look().await;
                if breaks {
                    let newer = container(&platform, &alice).await.newest_image_id;
                    platform.host.breaks_when_started(&newer, ContainerExit { code: 3, out_of_memory: false });
                }
                platform.host.hold(verb, held);
                platform.visit(&alice.instance).await;
                platform.host.until_held(verb).await;
                platform.kill().await;
                platform.host.release(verb);
                platform.start().await;
                let instance = platform.instances().all().pop().unwrap();
                platform.visit(&instance).await;
                until(&instance, |s| s.fact == Fact::Awake).await;
                platform.look().await;
                let seen = platform.host.list().await.unwrap();
                assert_eq!(seen.len(), 1, "{verb:?} {held:?} {breaks}");
                let there = seen[0].container.clone().unwrap();
                assert!(seen[0].volume);
                assert_eq!(there.image_id == before.image_id, breaks, "{verb:?} {held:?} {breaks}");
                let spec = platform.host.spec(instance.id).unwrap();
                assert!(platform.instances().by_token_hash(&berth_ground::secrets::hash(&spec.token)).is_some());
            }
        }
    }
}

#[tokio::test]
async fn another_image_and_size_apply_at_the_next_start_and_survive_a_restart() {
    for database in databases().await {
        let settings = [
            ("BERTH_IMAGES", "berth-instance:latest,other:1"),
            ("BERTH_SIZES", "large memory_mib=1024; hasty freeze_after_seconds=60"),
        ];
        let mut platform = FakePlatform::on(database, &settings).await;
        let alice = platform.settle_in("alice").await;
        let before = container(&platform, &alice).await;
        let settings = InstanceSettings { image: "other:1".into(), size: "large".into(), ..alice.instance.settings() };
        platform.instances().set_settings(&alice.instance, settings.clone()).await.unwrap();
        platform.look().await;
        assert_eq!(container(&platform, &alice).await.id, before.id);
        platform.wait(HALF_AN_HOUR).await;
        platform.restart().await;
        let instance = platform.instances().all().pop().unwrap();
        assert_eq!(instance.settings(), settings);
        platform.visit(&instance).await;
        until(&instance, |s| s.fact == Fact::Awake).await;
        let spec = platform.host.spec(instance.id).unwrap();
        assert_eq!((spec.image.as_str(), spec.size.as_str()), ("other:1", "large"));

        // Idle timeouts apply at once.
        let hasty = InstanceSettings { size: "hasty".into(), ..settings };
        platform.instances().set_settings(&instance, hasty).await.unwrap();
        platform.wait(Duration::from_secs(60)).await;
        until(&instance, |s| s.fact == Fact::Frozen).await;
    }
}

#[tokio::test]
async fn invalid_terms_are_refused_with_the_choices_there_are() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let settings = alice.instance.settings();
    let minute = Some(Duration::from_secs(60));
    for (wrong, field, words) in [
        (InstanceSettings { image: "somebody/else:1".into(), ..settings.clone() }, "image", IMAGE),
        (InstanceSettings { size: "huge".into(), ..settings.clone() }, "size", "standard"),
        (InstanceSettings { stop_after: minute, ..settings.clone() }, "stop_after", "frozen first"),
        (InstanceSettings { remove_after: minute, ..settings.clone() }, "remove_after", "stopped first"),
    ] {
        let refused = platform.instances().set_settings(&alice.instance, wrong).await;
        assert!(
            matches!(&refused, Err(Error::Invalid { field: f, message }) if *f == field && message.contains(words)),
            "{refused:?}"
        );
        assert_eq!(alice.instance.settings(), settings);
    }
}

#[tokio::test]
async fn a_suspended_instance_is_not_upgraded() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.host.rebuild_image(IMAGE);
    let refused = platform.instances().upgrade(&alice.instance).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))));
    assert_eq!(alice.instance.status().wish, Wish::Suspended);
}

#[tokio::test]
async fn an_instance_unused_for_thirty_days_loses_its_container_and_keeps_its_volume() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.wait(HALF_AN_HOUR).await;
    let before = container(&platform, &alice).await;
    platform.wait(Duration::from_secs(30 * 24 * 60 * 60)).await;
    let status = until(&alice.instance, |s| s.fact == Fact::Absent).await;
    assert_eq!(status.cause, Cause::Idle);
    let seen = platform.host.inspect(alice.instance.id).await.unwrap();
    assert!(seen.volume && seen.container.is_none());
    platform.visit(&alice.instance).await;
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    assert_ne!(container(&platform, &alice).await.id, before.id);
}

#[tokio::test]
async fn an_instance_that_wakes_too_long_counts_as_stuck_and_can_be_stopped() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.wait(HALF_AN_HOUR).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    platform.visit(&alice.instance).await;
    platform.host.until_held(Verb::Start).await;
    assert!(!alice.instance.status().is_stuck(platform.clock.now()));
    platform.clock.advance(STUCK_AFTER);
    assert!(alice.instance.status().is_stuck(platform.clock.now()));
    let metrics = || berth::ops::render(&platform.app.metrics, &platform.app.modules, platform.clock.now());
    assert!(metrics().contains("berth_instances_stuck 1"), "{}", metrics());
    platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    platform.host.release(Verb::Start);
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.visit(&alice.instance).await;
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    assert!(metrics().contains("berth_instances_stuck 0"));
}

#[tokio::test]
async fn the_outcome_of_a_requested_upgrade_is_reported() {
    let platform = FakePlatform::new(&[("BERTH_IMAGES", "berth-instance:latest,other:1")]).await;
    let alice = platform.settle_in("alice").await;
    let ask = async |image: &str| {
        platform.clock.advance(Duration::from_secs(1));
        let settings = InstanceSettings { image: image.into(), ..alice.instance.settings() };
        platform.instances().set_settings(&alice.instance, settings).await.unwrap();
        platform.instances().settled().await;
        let asked_at = platform.clock.now();
        let work = alice.instance.begin_work(Work::Request);
        platform.instances().upgrade(&alice.instance).await.unwrap();
        platform.instances().settled().await;
        let renewed = platform.instances().renewed(alice.instance.id, asked_at).await.unwrap();
        assert_eq!(renewed, UpgradeOutcome::UnderWay, "{image}: it waits for work in flight");
        platform.clock.advance(Duration::from_secs(1));
        drop(work);
        platform.look().await;
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.instances().settled().await;
        platform.instances().renewed(alice.instance.id, asked_at).await.unwrap()
    };
    assert_eq!(ask("other:1").await, UpgradeOutcome::Done);
    let broken = container(&platform, &alice).await.image_id;
    assert_eq!(ask(IMAGE).await, UpgradeOutcome::Done);
    platform.host.breaks_when_started(&broken, ContainerExit { code: 3, out_of_memory: false });
    assert_eq!(ask("other:1").await, UpgradeOutcome::RolledBack);
    assert!(platform.instances().outdated().await.unwrap().is_empty(), "a refused image is not offered again");
    assert_eq!(ask(IMAGE).await, UpgradeOutcome::Done, "another image is");
}
