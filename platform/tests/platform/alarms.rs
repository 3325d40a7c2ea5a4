//! Alarms: a program has its own instance woken, once or by cron, through restarts and crashes of the platform.

use std::time::Duration;

use berth::alarms::{MAX_ALARMS, Schedule};
use berth::instances::{Cause, Fact, Wish};
use berth::ops::Jobs;
use berth::webhooks::DeliveryState;
use berth_ground::error::Error;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;
use berth_testing::process::serve;
use berth_testing::quota_platform::client;
use berth_testing::webhook_receiver::Reply;
use berth_testing::{START, databases};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn put_to_sleep(platform: &FakePlatform, alice: &Person) {
    platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.instances().settled().await;
}

async fn again(platform: &FakePlatform, alice: Person) -> Person {
    alice.at(&platform.app)
}

/// A client of the instance API, as the program inside one instance.
struct Inside {
    url: String,
    token: String,
    client: reqwest::Client,
    end: CancellationToken,
}

impl Inside {
    async fn of(platform: &FakePlatform, person: &Person) -> Self {
        let end = CancellationToken::new();
        let router = berth::llm::router(platform.app.clone()).merge(berth::instance_api::router(platform.app.clone()));
        let url = format!("http://{}", serve(router, &end).await);
        let token = platform.host.spec(person.instance.id).unwrap().token;
        let home = person.instance.address();
        let client = client(Some(home));
        Self { url, token, client, end }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        let answer = request.bearer_auth(&self.token).body(body.to_owned()).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[tokio::test]
async fn a_program_sets_lists_and_deletes_its_alarms() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let inside = Inside::of(&platform, &alice).await;
        let (status, set) = inside.ask("PUT", "/alarms/nightly", r#"{"cron":"30 3 * * *","path":"/hooks/tick"}"#).await;
        assert_eq!((status, &set["next"]), (200, &json!("2026-11-16T03:30:00Z")), "{set}");
        let (_, once) = inside.ask("PUT", "/alarms/once", r#"{"at":"2026-11-15T12:00:00+01:00"}"#).await;
        assert_eq!((&once["at"], &once["next"]), (&json!("2026-11-15T11:00:00Z"), &json!("2026-11-15T11:00:00Z")));
        let in_an_hour = START.plus(HOUR).seconds();
        let (status, _) = inside.ask("PUT", "/alarms/once", &json!({ "at": in_an_hour }).to_string()).await;
        assert_eq!(status, 200, "seconds since 1970 will do, and the name is one alarm's");
        let (_, all) = inside.ask("GET", "/alarms", "").await;
        let named: Vec<_> = all["items"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
        assert_eq!((named, &all["limit"]), (vec!["nightly", "once"], &json!(MAX_ALARMS)));
        assert_eq!(all["next"], json!(null), "one page holds all of them");
        assert_eq!(inside.ask("DELETE", "/alarms/once", "").await.0, 204);
        let (status, gone) = inside.ask("DELETE", "/alarms/once", "").await;
        assert_eq!((status, &gone["code"]), (404, &json!("not_found")));
        assert_eq!(platform.app.alarms.of(alice.instance.id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_invalid_alarm_is_refused_with_its_field_and_a_sentence() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let bob = platform.settle_in("bob").await;
    let inside = Inside::of(&platform, &alice).await;
    for (name, body, status, field) in [
        ("a", "", 400, ""),
        ("a", "{}", 422, "at"),
        ("a", r#"{"at":1,"cron":"* * * * *"}"#, 422, "at"),
        ("a", r#"{"at":"tomorrow"}"#, 422, "at"),
        ("a", r#"{"at":"2020-01-01T00:00:00Z"}"#, 422, "at"),
        ("a", r#"{"at":1795183329000}"#, 422, "at"),
        ("a", r#"{"cron":"* * * * * *"}"#, 422, "cron"),
        ("a", r#"{"cron":"0 0 30 2 *"}"#, 422, "cron"),
        ("a", r#"{"cron":"* * * * *","path":"x"}"#, 422, "path"),
        ("a", r#"{"cron":"* * * * *","wake":true}"#, 400, ""),
        ("a%20b", r#"{"cron":"* * * * *"}"#, 422, "name"),
    ] {
        let (said, problem) = inside.ask("PUT", &format!("/alarms/{name}"), body).await;
        assert_eq!(said, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().ends_with('.'), "{problem}");
        if !field.is_empty() {
            assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
        }
    }
    let (status, _) = inside.ask("PUT", "/alarms/a", &format!("{{\"cron\":\"{}\"}}", "1".repeat(5000))).await;
    assert_eq!(status, 413);
    assert_eq!(inside.ask("POST", "/alarms", "").await.0, 405);
    let mut inside = inside;
    let bobs = platform.host.spec(bob.instance.id).unwrap().token;
    inside.token = "made-up".into();
    let (status, problem) = inside.ask("GET", "/alarms", "").await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    inside.token = bobs;
    assert_eq!(inside.ask("GET", "/alarms", "").await.0, 401, "another instance's token");
}

#[tokio::test]
async fn alarms_are_limited_in_number_and_in_changes_a_minute() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let (alarms, id) = (&platform.app.alarms, alice.instance.id);
        let daily = || Schedule::Cron("0 6 * * *".into());
        for n in 0..MAX_ALARMS {
            alarms.set(id, &n.to_string(), daily(), None).await.unwrap();
        }
        assert!(matches!(alarms.set(id, "more", daily(), None).await.unwrap_err(), Error::Conflict(_)));
        alarms.set(id, "7", Schedule::Cron("0 7 * * *".into()), None).await.expect("one that is there is replaced");
        for n in 0..26 {
            let _ = alarms.set(id, &n.to_string(), daily(), None).await;
        }
        let too_often = alarms.set(id, "1", daily(), None).await.unwrap_err();
        assert!(matches!(too_often, Error::TooMany { .. }), "{too_often}");
        let bob = platform.settle_in("bob").await;
        alarms.set(bob.instance.id, "1", daily(), None).await.expect("and that is alice's alone");
        assert_eq!(alarms.count().await.unwrap(), MAX_ALARMS as u64 + 1);
    }
}

#[tokio::test]
async fn a_due_alarm_wakes_its_instance_which_sleeps_again_when_it_does_nothing() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let (alarms, id) = (&platform.app.alarms, alice.instance.id);
        alarms.set(id, "once", Schedule::At(START.plus(HOUR)), None).await.unwrap();
        put_to_sleep(&platform, &alice).await;
        platform.clock.advance(HOUR - Duration::from_secs(1));
        assert_eq!(alarms.ring_due().await.unwrap(), 0);
        platform.look().await;
        assert_eq!(alice.instance.fact(), Fact::Stopped, "not before its time");
        platform.clock.advance(Duration::from_secs(1));
        assert_eq!(alarms.ring_due().await.unwrap(), 1);
        until(&alice.instance, |s| s.fact == Fact::Awake).await;
        platform.look().await;
        let history = platform.instances().history(id, 1).await.unwrap();
        assert_eq!((history[0].to, history[0].cause), (Fact::Awake, Cause::Alarm));
        assert!(alarms.of(id).await.unwrap().is_empty(), "once is once");
        assert_eq!(alarms.ring_due().await.unwrap(), 0);
        platform.until_tried(&alice, 0).await;
        platform.wait(Duration::from_secs(300)).await;
        until(&alice.instance, |s| s.fact == Fact::Frozen).await;
    }
}

#[tokio::test]
async fn an_alarm_with_a_path_is_delivered_there_until_it_is_accepted() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let (alarms, id) = (&platform.app.alarms, alice.instance.id);
        let every_hour = Schedule::Cron("0 * * * *".into());
        alarms.set(id, "hourly", every_hour, Some("/hooks/tick".into())).await.unwrap();
        put_to_sleep(&platform, &alice).await;
        platform.receiver.will(&[Reply::Says(503)]);
        platform.clock.advance(Duration::from_secs(1800));
        assert_eq!(alarms.ring_due().await.unwrap(), 1);
        platform.receiver.until(1).await;
        platform.until_tried(&alice, 1).await;
        platform.clock.advance(Duration::from_secs(10));
        platform.receiver.until(2).await;
        platform.until_tried(&alice, 0).await;
        {
            let seen = platform.receiver.seen().clone();
            assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/hooks/tick"));
            assert_eq!(seen[0].header("x-berth-alarm"), "hourly");
            assert_eq!((seen[0].id(), seen[1].header("x-berth-attempt")), (seen[1].id(), "2"));
            assert_eq!(seen[0].header("x-berth-user"), "", "no visitor");
        }
        platform.clock.advance(HOUR);
        assert_eq!(alarms.ring_due().await.unwrap(), 1);
        platform.receiver.until(3).await;
        let seen = platform.receiver.seen().clone();
        assert_ne!(seen[2].id(), seen[0].id(), "another ring is another delivery");
    }
}

#[tokio::test]
async fn times_missed_while_the_platform_was_down_ring_once() {
    for database in databases().await {
        let mut platform = FakePlatform::on(database, &[]).await;
        let mut alice = platform.settle_in("alice").await;
        let id = alice.instance.id;
        let every_minute = Schedule::Cron("* * * * *".into());
        platform.app.alarms.set(id, "tick", every_minute, Some("/hooks/tick".into())).await.unwrap();
        platform.app.alarms.set(id, "once", Schedule::At(START.plus(HOUR)), Some("/hooks/once".into())).await.unwrap();
        put_to_sleep(&platform, &alice).await;
        platform.kill().await;
        platform.clock.advance(HOUR * 24);
        platform.start().await;
        alice = again(&platform, alice).await;
        assert_eq!(platform.app.alarms.ring_due().await.unwrap(), 2);
        platform.receiver.until(2).await;
        assert_eq!(platform.app.alarms.ring_due().await.unwrap(), 0);
        let left = platform.app.alarms.of(id).await.unwrap();
        assert_eq!((left.len(), left[0].due), (1, platform.clock.now().plus(Duration::from_secs(60))));

        // Killed after it rang and before anything woke: the delivery is on disk and wakes.
        put_to_sleep(&platform, &alice).await;
        platform.app.instances.settled().await;
        let before = platform.receiver.seen().len();
        platform.host.cut_off();
        platform.clock.advance(Duration::from_secs(60));
        assert_eq!(platform.app.alarms.ring_due().await.unwrap(), 1);
        platform.kill().await;
        platform.host.reconnect();
        platform.start().await;
        platform.receiver.until(before + 1).await;
        assert_eq!(platform.receiver.seen().last().unwrap().header("x-berth-alarm"), "tick");
    }
}

#[tokio::test]
async fn an_alarm_does_not_pile_up_while_its_last_delivery_waits() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let (alarms, id) = (&platform.app.alarms, alice.instance.id);
    alarms.set(id, "tick", Schedule::Cron("* * * * *".into()), Some("/hooks/tick".into())).await.unwrap();
    let stubborn = [Reply::Says(500); 50];
    platform.receiver.will(&stubborn);
    for _ in 0..20 {
        platform.clock.advance(Duration::from_secs(60));
        alarms.ring_due().await.unwrap();
        platform.deliver_due().await;
    }
    assert_eq!(platform.app.webhooks.deliveries(id, DeliveryState::Waiting, 99).await.unwrap().len(), 1);
    assert_eq!(platform.app.webhooks.counts(id).waiting, 1);
}

#[tokio::test]
async fn alarms_of_a_suspended_instance_wait() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let (alarms, id) = (&platform.app.alarms, alice.instance.id);
    alarms.set(id, "once", Schedule::At(START.plus(HOUR)), None).await.unwrap();
    alarms.set(id, "often", Schedule::Cron("*/5 * * * *".into()), None).await.unwrap();
    platform.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.clock.advance(HOUR);
    assert_eq!(alarms.ring_due().await.unwrap(), 0);
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Stopped);
    assert_eq!(alarms.of(id).await.unwrap().len(), 2);
    let inside = Inside::of(&platform, &alice).await;
    assert_eq!(inside.ask("PUT", "/alarms/a", r#"{"cron":"* * * * *"}"#).await.0, 403);
    platform.app.accounts.restore(&alice.instance.handle, "operator").await.unwrap();
    platform.clock.advance(HOUR);
    assert_eq!(alarms.ring_due().await.unwrap(), 2);
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn the_scheduler_rings_alarms() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.app.alarms.set(alice.instance.id, "once", Schedule::At(START.plus(HOUR)), None).await.unwrap();
    put_to_sleep(&platform, &alice).await;
    let app = &platform.app;
    let jobs = Jobs::new(app.db.clone(), app.clock.clone(), &app.modules);
    let end = CancellationToken::new();
    let running = tokio::spawn(jobs.run(end.clone()));
    platform.clock.advance(HOUR);
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    end.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn deleting_an_instances_alarms_leaves_none() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
        for person in [&alice, &bob] {
            platform.app.alarms.set(person.instance.id, "a", Schedule::Cron("* * * * *".into()), None).await.unwrap();
        }
        let tx = platform.app.db.begin().await.unwrap();
        platform.app.alarms.forget_in(&tx, alice.instance.id).await.unwrap();
        tx.commit().await.unwrap();
        assert!(platform.app.alarms.of(alice.instance.id).await.unwrap().is_empty());
        assert_eq!(platform.app.alarms.count().await.unwrap(), 1);
    }
}
