//! Webhooks: a request to an open path is stored while the instance sleeps, wakes it, and is delivered at least once.

mod migration;

use std::collections::HashSet;
use std::time::Duration;

use berth::containers::HostError;
use berth::containers::fake::{HoldPoint, Verb};
use berth::error::Error;
use berth::instances::{Cause, Fact, Wish};
use berth::webhooks::{DeliveryState, MAX_BODY_BYTES, MAX_PATHS, PathSuffix, RETRY_WINDOW};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use berth_testing::databases;
use berth_testing::fake_platform::{Answer, FakePlatform, Person, until};
use berth_testing::webhook_receiver::Reply;

const HOST: &str = "alice.example.com";
const HOOK: &str = "/hooks/github";
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

async fn open(town: &FakePlatform, alice: &Person, path: &str) {
    town.app.webhooks.open_path(alice.instance.id, path, PathSuffix::None).await.unwrap();
}

async fn put_to_sleep(town: &FakePlatform, alice: &Person) {
    town.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    town.instances().settled().await;
}

/// What a sender that knows nothing of Berth posts.
async fn post(town: &FakePlatform, path: &str, body: &str) -> Answer {
    let headers = [
        ("content-type", "application/json"),
        ("x-hub-signature-256", "sha256=abc"),
        ("cookie", "a=1; __Host-berth=stolen"),
        ("x-berth-user", "alice"),
        ("x-berth-delivery", "forged"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example.com"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
    ];
    town.send("POST", HOST, path, &headers, body).await
}

async fn until_delivered(town: &FakePlatform, alice: &Person) {
    until_waiting(town, alice, 0).await;
}

async fn until_waiting(town: &FakePlatform, alice: &Person, deliveries: u64) {
    for _ in 0..400 {
        if town.app.webhooks.counts(alice.instance.id).waiting == deliveries {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waiting: {:?}", town.app.webhooks.deliveries(alice.instance.id, DeliveryState::Waiting, 9).await);
}

#[tokio::test]
async fn a_webhook_to_a_sleeping_instance_is_stored_wakes_it_and_arrives_as_it_was_sent() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        open(&town, &alice, HOOK).await;
        put_to_sleep(&town, &alice).await;
        town.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        let answer = post(&town, "/hooks/github?x=1&y=%20", r#"{"ref":"main"}"#).await;
        assert_eq!((answer.status, answer.header("cache-control")), (202, "no-store"), "{}", answer.text());
        assert!(town.receiver.seen().is_empty(), "stored before anything is awake");
        town.host.release(Verb::Start);
        town.receiver.until(1).await;
        until_delivered(&town, &alice).await;
        let received = town.receiver.seen()[0].clone();
        assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/hooks/github?x=1&y=%20"));
        assert_eq!(received.body, r#"{"ref":"main"}"#);
        assert_eq!(received.id(), answer.json()["delivery"]);
        for (name, value) in [
            ("x-berth-attempt", "1"),
            ("content-type", "application/json"),
            ("x-hub-signature-256", "sha256=abc"),
            ("host", HOST),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-host", HOST),
            ("x-forwarded-proto", "https"),
            ("cookie", ""),
            ("x-berth-user", ""),
            ("x-berth-assertion", ""),
            ("x-secret", ""),
        ] {
            assert_eq!(received.header(name), value, "{name}");
        }
        town.look().await;
        let history = town.instances().history(alice.instance.id, 1).await.unwrap();
        assert_eq!((history[0].to, history[0].cause), (Fact::Awake, Cause::Webhook));
        let listed = town.app.webhooks.deliveries(alice.instance.id, DeliveryState::Delivered, 9).await.unwrap();
        assert_eq!((listed.len(), listed[0].attempts, listed[0].last_result.as_deref()), (1, 1, Some("200")));
    }
}

#[tokio::test]
async fn only_an_open_path_takes_webhooks_and_only_by_post_or_put() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    open(&town, &alice, HOOK).await;
    put_to_sleep(&town, &alice).await;
    let starts = town.host.calls(Verb::Start);
    for (method, path) in [
        ("POST", "/hooks/other"),
        ("POST", "/hooks/github/"),
        ("POST", "/hooks"),
        ("POST", "/Hooks/github"),
        ("POST", "/hooks/%67ithub"),
        ("GET", HOOK),
        ("HEAD", HOOK),
        ("DELETE", HOOK),
        ("OPTIONS", HOOK),
    ] {
        assert_eq!(town.send(method, HOST, path, &[], "x").await.status, 401, "{method} {path}");
    }
    assert_eq!(town.send("POST", "bob.example.com", HOOK, &[], "x").await.status, 404);
    town.look().await;
    assert_eq!((alice.instance.fact(), town.host.calls(Verb::Start)), (Fact::Stopped, starts), "nothing woke");
    assert_eq!(town.send("PUT", HOST, HOOK, &[], "put").await.status, 202);
    town.receiver.until(1).await;
    assert_eq!(town.receiver.seen()[0].method, "PUT");
    until_delivered(&town, &alice).await;
    town.app.webhooks.close_path(alice.instance.id, HOOK).await.unwrap();
    assert_eq!(town.send("PUT", HOST, HOOK, &[], "put").await.status, 401, "closed");
}

#[tokio::test]
async fn an_owners_paths_are_few_plain_and_may_end_in_a_secret() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        let webhooks = &town.app.webhooks;
        let id = alice.instance.id;
        let secret = webhooks.open_path(id, "/hooks/plain", PathSuffix::Unguessable).await.unwrap();
        let end = secret.path.strip_prefix("/hooks/plain/").expect("the path comes first");
        assert_eq!(end.len(), 22, "132 bits");
        assert_eq!(town.send("POST", HOST, &secret.path, &[], "x").await.status, 202);
        assert_eq!(town.send("POST", HOST, "/hooks/plain", &[], "x").await.status, 401);
        for path in ["", "/", "/.berth/x", "/a b"] {
            let refused = webhooks.open_path(id, path, PathSuffix::None).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid { field: "path", .. }), "{path}: {refused}");
        }
        for n in 1..MAX_PATHS {
            open(&town, &alice, &format!("/hooks/{n}")).await;
        }
        let refused = webhooks.open_path(id, "/hooks/more", PathSuffix::None).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict(_)));
        webhooks.close_path(id, "/hooks/1").await.unwrap();
        assert!(matches!(webhooks.close_path(id, "/hooks/1").await.unwrap_err(), Error::NotFound));
        assert!(matches!(webhooks.open_path(id, "/hooks/2", PathSuffix::None).await.unwrap_err(), Error::Conflict(_)));
        open(&town, &alice, "/hooks/more").await;
    }
}

#[tokio::test]
async fn a_path_keeps_its_order_while_another_goes_on() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        open(&town, &alice, HOOK).await;
        open(&town, &alice, "/hooks/other").await;
        put_to_sleep(&town, &alice).await;
        town.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        for (path, body) in [(HOOK, "1"), (HOOK, "2"), ("/hooks/other", "a"), (HOOK, "3"), ("/hooks/other", "b")] {
            assert_eq!(post(&town, path, body).await.status, 202);
        }
        town.receiver.will(&[Reply::Says(500)]);
        town.host.release(Verb::Start);
        town.receiver.until(3).await;
        assert_eq!(town.receiver.bodies(), ["1", "a", "b"], "one that was refused holds back its own path alone");
        until_waiting(&town, &alice, 3).await;
        town.clock.advance(Duration::from_secs(10));
        town.receiver.until(6).await;
        until_delivered(&town, &alice).await;
        assert_eq!(town.receiver.bodies()[3..], ["1", "2", "3"]);
        let seen = town.receiver.seen().clone();
        assert_eq!((seen[0].id(), seen[0].header("x-berth-attempt")), (seen[3].id(), "1"));
        assert_eq!(seen[3].header("x-berth-attempt"), "2");
    }
}

#[tokio::test]
async fn a_webhook_that_is_never_accepted_is_a_dead_letter_after_days_and_its_owner_decides() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        let (webhooks, id) = (&town.app.webhooks, alice.instance.id);
        open(&town, &alice, HOOK).await;
        town.receiver.will(&[Reply::Says(404), Reply::Says(503), Reply::Says(410)]);
        post(&town, HOOK, "first").await;
        town.receiver.until(1).await;
        town.until_tried(&alice, 1).await;
        post(&town, HOOK, "second").await;
        town.clock.advance(RETRY_WINDOW);
        town.receiver.until(3).await;
        until_delivered(&town, &alice).await;
        let counts = webhooks.counts(id);
        assert_eq!((counts.waiting, counts.dead_letters), (0, 2), "410 is no for good");
        assert!(counts.bytes > 0);
        let dead_letters = webhooks.deliveries(id, DeliveryState::DeadLetter, 9).await.unwrap();
        let told: Vec<_> = dead_letters.iter().map(|l| (l.attempts, l.last_result.as_deref())).collect();
        assert_eq!(told, [(1, Some("410")), (2, Some("503"))]);
        webhooks.retry(id, dead_letters[1].id).await.unwrap();
        town.receiver.until(4).await;
        until_delivered(&town, &alice).await;
        assert_eq!(town.receiver.bodies()[3], "first");
        webhooks.discard(id, dead_letters[0].id).await.unwrap();
        assert_eq!(webhooks.counts(id), berth::webhooks::InboxCounts::default());
        for gone in &dead_letters {
            assert!(matches!(webhooks.retry(id, gone.id).await.unwrap_err(), Error::NotFound));
            assert!(matches!(webhooks.discard(id, gone.id).await.unwrap_err(), Error::NotFound));
        }
    }
}

#[tokio::test]
async fn another_owners_delivery_is_not_found() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    let bob = town.settle_in("bob").await;
    open(&town, &alice, HOOK).await;
    town.receiver.will(&[Reply::Says(410)]);
    post(&town, HOOK, "x").await;
    town.receiver.until(1).await;
    until_delivered(&town, &alice).await;
    let (webhooks, id) = (&town.app.webhooks, alice.instance.id);
    let delivery = webhooks.deliveries(id, DeliveryState::DeadLetter, 9).await.unwrap()[0].id;
    assert!(matches!(webhooks.retry(bob.instance.id, delivery).await.unwrap_err(), Error::NotFound));
    assert!(matches!(webhooks.discard(bob.instance.id, delivery).await.unwrap_err(), Error::NotFound));
    assert!(matches!(webhooks.close_path(bob.instance.id, HOOK).await.unwrap_err(), Error::NotFound));
    assert_eq!(webhooks.counts(id).dead_letters, 1);
}

#[tokio::test]
async fn the_platform_killed_between_202_and_delivery_loses_nothing() {
    for database in databases().await {
        let mut town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        open(&town, &alice, HOOK).await;
        put_to_sleep(&town, &alice).await;
        town.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        let answer = post(&town, HOOK, "kept").await;
        assert_eq!(answer.status, 202);
        town.host.until_held(Verb::Start).await;
        town.kill().await;
        town.host.release(Verb::Start);
        town.start().await;
        town.receiver.until(1).await;
        let alice = Person { instance: town.instances().all()[0].clone(), ..alice };
        until_delivered(&town, &alice).await;
        let first = town.receiver.seen()[0].clone();
        assert_eq!((first.body.as_str(), first.id()), ("kept", answer.json()["delivery"].as_str().unwrap()));
        assert!(town.app.webhooks.is_open(alice.instance.id, HOOK), "the path stays open");

        // Killed when the program has it, and its answer is lost: it comes once more, and says so.
        town.receiver.will(&[Reply::Hangs]);
        post(&town, HOOK, "twice").await;
        town.receiver.until(2).await;
        town.kill().await;
        town.start().await;
        town.receiver.until(3).await;
        let alice = Person { instance: town.instances().all()[0].clone(), ..alice };
        until_delivered(&town, &alice).await;
        let seen = town.receiver.seen().clone();
        assert_eq!((seen[1].id(), seen[1].header("x-berth-attempt")), (seen[2].id(), "1"));
        assert_eq!(seen[2].header("x-berth-attempt"), "2");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(town.receiver.seen().len(), 3, "what was accepted comes no more");
    }
}

#[tokio::test]
async fn a_suspended_instance_takes_no_webhooks_and_those_it_had_wait() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    open(&town, &alice, HOOK).await;
    town.receiver.will(&[Reply::Says(500)]);
    post(&town, HOOK, "before").await;
    town.receiver.until(1).await;
    town.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    let refused = post(&town, HOOK, "meanwhile").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (403, "closed"));
    town.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!((town.receiver.seen().len(), alice.instance.fact()), (1, Fact::Stopped));
    town.app.accounts.restore(&alice.instance.handle, "operator").await.unwrap();
    town.clock.advance(Duration::from_secs(600));
    town.receiver.until(2).await;
    assert_eq!(town.receiver.bodies(), ["before", "before"]);
}

#[tokio::test]
async fn webhooks_alone_keep_no_instance_awake_for_ever() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    open(&town, &alice, HOOK).await;
    // Two hours with a webhook every minute, and no visit.
    let (mut awake, mut sent) = (0, 0);
    for minute in 0..120 {
        town.clock.advance(Duration::from_secs(60));
        assert_eq!(post(&town, HOOK, &minute.to_string()).await.status, 202);
        sent += 1;
        // Time for the dispatcher to deliver before the clock is advanced again.
        tokio::time::sleep(Duration::from_millis(30)).await;
        town.look().await;
        awake += u32::from(alice.instance.fact() == Fact::Awake);
    }
    // Six wakes at once and six an hour, five minutes each, are ninety minutes; a sign-up's own are on top.
    assert!((30..=100).contains(&awake), "awake at {awake} of 120 minutes");
    // And nothing is lost by it.
    for _ in 0..30 {
        town.clock.advance(FIVE_MINUTES);
        tokio::time::sleep(Duration::from_millis(600)).await;
        if town.app.webhooks.counts(alice.instance.id).waiting == 0 {
            break;
        }
    }
    let bodies: Vec<usize> = town.receiver.bodies().iter().map(|body| body.parse().unwrap()).collect();
    assert_eq!(bodies, (0..sent).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn webhooks_over_a_limit_are_refused_with_a_sentence() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    open(&town, &alice, HOOK).await;
    let just = "x".repeat(MAX_BODY_BYTES);
    assert_eq!(post(&town, HOOK, &just).await.status, 202);
    let refused = post(&town, HOOK, &format!("{just}x")).await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (413, "too_large"));
    let refused = post(&town, &format!("{HOOK}?{}", "x".repeat(9_000)), "").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (414, "target_too_long"));
    let refused = town.send("POST", HOST, HOOK, &[("x", &"x".repeat(17_000))], "").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (431, "head_too_large"));
    until_delivered(&town, &alice).await;

    // The program accepts nothing, and the inbox fills.
    let stubborn = vec![Reply::Says(500); 100];
    town.receiver.will(&stubborn);
    let mut last = post(&town, HOOK, &just).await;
    for _ in 0..20 {
        last = post(&town, HOOK, &just).await;
        if last.status != 202 {
            break;
        }
    }
    assert_eq!((last.status, last.json()["code"].as_str().unwrap()), (507, "inbox_full"));
    assert!(!last.header("retry-after").is_empty() && last.json()["detail"].as_str().unwrap().contains("full"));
    assert_eq!(town.app.webhooks.counts(alice.instance.id).waiting, 15);
    // Refused requests count as well: a flood soon meets the rate limit.
    let mut statuses = Vec::new();
    for _ in 0..150 {
        statuses.push(post(&town, HOOK, "").await.status);
    }
    let last = post(&town, HOOK, "").await;
    assert_eq!((last.status, last.json()["code"].as_str().unwrap()), (429, "too_many"));
    assert!(!last.header("retry-after").is_empty());
    assert_eq!(town.get("app.example.com", "/log-in", &[]).await.status, 200, "everything else goes on");
}

#[tokio::test]
async fn deleting_an_instances_webhooks_leaves_nothing() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        let (webhooks, id) = (&town.app.webhooks, alice.instance.id);
        open(&town, &alice, HOOK).await;
        town.receiver.will(&[Reply::Says(410)]);
        post(&town, HOOK, "x").await;
        post(&town, HOOK, "y").await;
        town.receiver.until(2).await;
        until_delivered(&town, &alice).await;
        let tx = town.app.db.begin().await.unwrap();
        webhooks.forget_in(&tx, id).await.unwrap();
        tx.commit().await.unwrap();
        webhooks.forget(id);
        assert!(webhooks.paths(id).is_empty() && webhooks.total_counts() == berth::webhooks::InboxCounts::default());
        for state in [DeliveryState::Waiting, DeliveryState::DeadLetter, DeliveryState::Delivered] {
            assert!(webhooks.deliveries(id, state, 9).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn whatever_breaks_every_webhook_that_was_accepted_arrives() {
    for (database, seed) in databases().await.into_iter().zip(rand::random::<[u64; 2]>()) {
        println!("seed {seed} on {}", database.kind);
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = FakePlatform::on(database, &[]).await;
        let mut alice = town.settle_in("alice").await;
        for path in ["/hooks/a", "/hooks/b", "/hooks/c"] {
            open(&town, &alice, path).await;
        }
        let mut accepted: Vec<(String, String)> = Vec::new();
        for step in 0..60 {
            match random.random_range(0..10) {
                0..4 => {
                    let path = ["/hooks/a", "/hooks/b", "/hooks/c"][random.random_range(0..3)];
                    let answer = post(&town, path, &step.to_string()).await;
                    if answer.status == 202 {
                        accepted.push((path.into(), answer.json()["delivery"].as_str().unwrap().into()));
                    }
                }
                4 => town.receiver.will(&[Reply::Says(500)]),
                5 => town.receiver.will(&[Reply::Hangs]),
                6 => town.host.fail_next(Verb::Start, HostError::Unreachable),
                7 => {
                    let _ = town.instances().sleep(&alice.instance, Wish::Frozen, Cause::OwnerAsked).await;
                }
                8 => {
                    town.restart().await;
                    alice.instance = town.instances().all()[0].clone();
                }
                _ => town.clock.advance(Duration::from_secs(random.random_range(0..600))),
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        // Nothing breaks any more.
        town.receiver.takes_all();
        town.restart().await;
        alice.instance = town.instances().all()[0].clone();
        for _ in 0..60 {
            if town.app.webhooks.counts(alice.instance.id).waiting == 0 {
                break;
            }
            town.clock.advance(FIVE_MINUTES);
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        let counts = town.app.webhooks.counts(alice.instance.id);
        assert_eq!((counts.waiting, counts.dead_letters, counts.bytes), (0, 0, 0), "seed {seed}");
        let seen = town.receiver.seen().clone();
        let arrived: HashSet<&str> = seen.iter().map(|received| received.id()).collect();
        let lost: Vec<_> = accepted.iter().filter(|(_, id)| !arrived.contains(id.as_str())).collect();
        assert!(lost.is_empty(), "seed {seed}: {} of {} were lost: {lost:?}", lost.len(), accepted.len());
        // Each path's webhooks were first seen in the order in which they were accepted.
        for path in ["/hooks/a", "/hooks/b", "/hooks/c"] {
            let sent: Vec<&str> = accepted.iter().filter(|(p, _)| p == path).map(|(_, id)| id.as_str()).collect();
            let mut first = Vec::new();
            for id in seen.iter().filter(|received| received.target == path).map(|received| received.id()) {
                if !first.contains(&id) {
                    first.push(id);
                }
            }
            assert_eq!(first, sent, "seed {seed}: {path}");
        }
    }
}
