//! Webhooks: a request to an open path is stored while the instance sleeps, wakes it, and is delivered at least once.

mod lists;
mod migration;

use std::collections::HashSet;
use std::time::Duration;

use berth::instances::{Cause, Fact, Wish};
use berth::webhooks::{DeliveryState, MAX_BODY_BYTES, MAX_PATHS, PathSuffix, RETRY_WINDOW};
use berth_containers::HostError;
use berth_containers::fake::{HoldPoint, Verb};
use berth_ground::error::Error;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use berth_testing::databases;
use berth_testing::fake_platform::{Answer, FakePlatform, until};
use berth_testing::person::Person;
use berth_testing::wait::{PATIENCE, Wait};
use berth_testing::webhook_receiver::Reply;

const HOST: &str = "alice.example.com";
const HOOK: &str = "/hooks/github";
const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);

async fn open(platform: &FakePlatform, alice: &Person, path: &str) {
    platform.app.webhooks.open_path(alice.instance.id, path, PathSuffix::None).await.unwrap();
}

async fn put_to_sleep(platform: &FakePlatform, alice: &Person) {
    platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.instances().settled().await;
}

/// What a sender that knows nothing of Berth posts.
async fn post(platform: &FakePlatform, path: &str, body: &str) -> Answer {
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
    platform.send("POST", HOST, path, &headers, body).await
}

async fn until_delivered(platform: &FakePlatform, alice: &Person) {
    until_waiting(platform, alice, 0).await;
}

async fn until_waiting(platform: &FakePlatform, alice: &Person, deliveries: u64) {
    let (webhooks, id) = (&platform.app.webhooks, alice.instance.id);
    let waits = async || webhooks.counts(id).waiting == deliveries;
    if !Wait::within(PATIENCE).succeeds(waits).await {
        panic!("waiting: {:?}", webhooks.deliveries(id, DeliveryState::Waiting, 9).await);
    }
}

#[tokio::test]
async fn a_webhook_to_a_sleeping_instance_is_stored_wakes_it_and_arrives_as_it_was_sent() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        open(&platform, &alice, HOOK).await;
        put_to_sleep(&platform, &alice).await;
        platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        let answer = post(&platform, "/hooks/github?x=1&y=%20", r#"{"ref":"main"}"#).await;
        assert_eq!((answer.status, answer.header("cache-control")), (202, "no-store"), "{}", answer.text());
        assert!(platform.receiver.seen().is_empty(), "stored before anything is awake");
        platform.host.release(Verb::Start);
        platform.receiver.until(1).await;
        until_delivered(&platform, &alice).await;
        let received = platform.receiver.seen()[0].clone();
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
        platform.look().await;
        let history = platform.instances().history(alice.instance.id, 1).await.unwrap();
        assert_eq!((history[0].to, history[0].cause), (Fact::Awake, Cause::Webhook));
        let listed = platform.app.webhooks.deliveries(alice.instance.id, DeliveryState::Delivered, 9).await.unwrap();
        assert_eq!((listed.len(), listed[0].attempts, listed[0].last_result.as_deref()), (1, 1, Some("200")));
    }
}

#[tokio::test]
async fn only_an_open_path_takes_webhooks_and_only_by_post_or_put() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    open(&platform, &alice, HOOK).await;
    put_to_sleep(&platform, &alice).await;
    let starts = platform.host.calls(Verb::Start);
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
        assert_eq!(platform.send(method, HOST, path, &[], "x").await.status, 401, "{method} {path}");
    }
    assert_eq!(platform.send("POST", "bob.example.com", HOOK, &[], "x").await.status, 404);
    platform.look().await;
    assert_eq!((alice.instance.fact(), platform.host.calls(Verb::Start)), (Fact::Stopped, starts), "nothing woke");
    assert_eq!(platform.send("PUT", HOST, HOOK, &[], "put").await.status, 202);
    platform.receiver.until(1).await;
    assert_eq!(platform.receiver.seen()[0].method, "PUT");
    until_delivered(&platform, &alice).await;
    platform.app.webhooks.close_path(alice.instance.id, HOOK).await.unwrap();
    assert_eq!(platform.send("PUT", HOST, HOOK, &[], "put").await.status, 401, "closed");
}

#[tokio::test]
async fn an_owners_paths_are_few_plain_and_may_end_in_a_secret() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let webhooks = &platform.app.webhooks;
        let id = alice.instance.id;
        let secret = webhooks.open_path(id, "/hooks/plain", PathSuffix::Unguessable).await.unwrap();
        let end = secret.path.strip_prefix("/hooks/plain/").expect("the path comes first");
        assert_eq!(end.len(), 22, "132 bits");
        assert_eq!(platform.send("POST", HOST, &secret.path, &[], "x").await.status, 202);
        assert_eq!(platform.send("POST", HOST, "/hooks/plain", &[], "x").await.status, 401);
        for path in ["", "/", "/.berth/x", "/a b"] {
            let refused = webhooks.open_path(id, path, PathSuffix::None).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid { field: "path", .. }), "{path}: {refused}");
        }
        for n in 1..MAX_PATHS {
            open(&platform, &alice, &format!("/hooks/{n}")).await;
        }
        let refused = webhooks.open_path(id, "/hooks/more", PathSuffix::None).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict(_)));
        webhooks.close_path(id, "/hooks/1").await.unwrap();
        assert!(matches!(webhooks.close_path(id, "/hooks/1").await.unwrap_err(), Error::NotFound));
        assert!(matches!(webhooks.open_path(id, "/hooks/2", PathSuffix::None).await.unwrap_err(), Error::Conflict(_)));
        open(&platform, &alice, "/hooks/more").await;
    }
}

#[tokio::test]
async fn a_path_keeps_its_order_while_another_goes_on() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        open(&platform, &alice, HOOK).await;
        open(&platform, &alice, "/hooks/other").await;
        put_to_sleep(&platform, &alice).await;
        platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        for (path, body) in [(HOOK, "1"), (HOOK, "2"), ("/hooks/other", "a"), (HOOK, "3"), ("/hooks/other", "b")] {
            assert_eq!(post(&platform, path, body).await.status, 202);
        }
        platform.receiver.will(&[Reply::Says(500)]);
        platform.host.release(Verb::Start);
        platform.receiver.until(3).await;
        assert_eq!(platform.receiver.bodies(), ["1", "a", "b"], "one that was refused holds back its own path alone");
        until_waiting(&platform, &alice, 3).await;
        platform.clock.advance(Duration::from_secs(10));
        platform.receiver.until(6).await;
        until_delivered(&platform, &alice).await;
        assert_eq!(platform.receiver.bodies()[3..], ["1", "2", "3"]);
        let seen = platform.receiver.seen().clone();
        assert_eq!((seen[0].id(), seen[0].header("x-berth-attempt")), (seen[3].id(), "1"));
        assert_eq!(seen[3].header("x-berth-attempt"), "2");
    }
}

#[tokio::test]
async fn a_webhook_that_is_never_accepted_is_a_dead_letter_after_days_and_its_owner_decides() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let (webhooks, id) = (&platform.app.webhooks, alice.instance.id);
        open(&platform, &alice, HOOK).await;
        platform.receiver.will(&[Reply::Says(404), Reply::Says(503), Reply::Says(410)]);
        post(&platform, HOOK, "first").await;
        platform.receiver.until(1).await;
        platform.until_tried(&alice, 1).await;
        post(&platform, HOOK, "second").await;
        platform.clock.advance(RETRY_WINDOW);
        platform.receiver.until(3).await;
        until_delivered(&platform, &alice).await;
        let counts = webhooks.counts(id);
        assert_eq!((counts.waiting, counts.dead_letters), (0, 2), "410 is no for good");
        assert!(counts.bytes > 0);
        let dead_letters = webhooks.deliveries(id, DeliveryState::DeadLetter, 9).await.unwrap();
        let told: Vec<_> = dead_letters.iter().map(|l| (l.attempts, l.last_result.as_deref())).collect();
        assert_eq!(told, [(1, Some("410")), (2, Some("503"))]);
        webhooks.retry(id, dead_letters[1].id).await.unwrap();
        platform.receiver.until(4).await;
        until_delivered(&platform, &alice).await;
        assert_eq!(platform.receiver.bodies()[3], "first");
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
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let bob = platform.settle_in("bob").await;
    open(&platform, &alice, HOOK).await;
    platform.receiver.will(&[Reply::Says(410)]);
    post(&platform, HOOK, "x").await;
    platform.receiver.until(1).await;
    until_delivered(&platform, &alice).await;
    let (webhooks, id) = (&platform.app.webhooks, alice.instance.id);
    let delivery = webhooks.deliveries(id, DeliveryState::DeadLetter, 9).await.unwrap()[0].id;
    assert!(matches!(webhooks.retry(bob.instance.id, delivery).await.unwrap_err(), Error::NotFound));
    assert!(matches!(webhooks.discard(bob.instance.id, delivery).await.unwrap_err(), Error::NotFound));
    assert!(matches!(webhooks.close_path(bob.instance.id, HOOK).await.unwrap_err(), Error::NotFound));
    assert_eq!(webhooks.counts(id).dead_letters, 1);
}

#[tokio::test]
async fn the_platform_killed_between_202_and_delivery_loses_nothing() {
    for database in databases().await {
        let mut platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        open(&platform, &alice, HOOK).await;
        put_to_sleep(&platform, &alice).await;
        platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
        let answer = post(&platform, HOOK, "kept").await;
        assert_eq!(answer.status, 202);
        platform.host.until_held(Verb::Start).await;
        platform.kill().await;
        platform.host.release(Verb::Start);
        platform.start().await;
        platform.receiver.until(1).await;
        let alice = alice.at(&platform.app);
        until_delivered(&platform, &alice).await;
        let first = platform.receiver.seen()[0].clone();
        assert_eq!((first.body.as_str(), first.id()), ("kept", answer.json()["delivery"].as_str().unwrap()));
        assert!(platform.app.webhooks.is_open(alice.instance.id, HOOK), "the path stays open");

        // Killed when the program has it, and its answer is lost: it comes once more, and says so.
        platform.receiver.will(&[Reply::Hangs]);
        post(&platform, HOOK, "twice").await;
        platform.receiver.until(2).await;
        platform.kill().await;
        platform.start().await;
        platform.receiver.until(3).await;
        let alice = alice.at(&platform.app);
        until_delivered(&platform, &alice).await;
        let seen = platform.receiver.seen().clone();
        assert_eq!((seen[1].id(), seen[1].header("x-berth-attempt")), (seen[2].id(), "1"));
        assert_eq!(seen[2].header("x-berth-attempt"), "2");
        platform.deliver_due().await;
        assert_eq!(platform.receiver.seen().len(), 3, "an accepted webhook is not delivered again");
    }
}

#[tokio::test]
async fn a_suspended_instance_takes_no_webhooks_and_those_it_had_wait() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    open(&platform, &alice, HOOK).await;
    platform.receiver.will(&[Reply::Says(500)]);
    post(&platform, HOOK, "before").await;
    platform.receiver.until(1).await;
    platform.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    let refused = post(&platform, HOOK, "meanwhile").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (403, "closed"));
    platform.clock.advance(Duration::from_secs(60));
    platform.deliver_due().await;
    assert_eq!((platform.receiver.seen().len(), alice.instance.fact()), (1, Fact::Stopped));
    platform.app.accounts.restore(&alice.instance.handle, "operator").await.unwrap();
    platform.clock.advance(Duration::from_secs(600));
    platform.receiver.until(2).await;
    assert_eq!(platform.receiver.bodies(), ["before", "before"]);
}

#[tokio::test]
async fn webhooks_alone_keep_no_instance_awake_for_ever() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    open(&platform, &alice, HOOK).await;
    // Two hours with a webhook every minute, and no visit.
    let (mut awake, mut sent) = (0, 0);
    for minute in 0..120 {
        platform.clock.advance(Duration::from_secs(60));
        assert_eq!(post(&platform, HOOK, &minute.to_string()).await.status, 202);
        sent += 1;
        platform.deliver_due().await;
        platform.look().await;
        awake += u32::from(alice.instance.fact() == Fact::Awake);
    }
    // Six wakes at once and six an hour, five minutes each, are ninety minutes; a sign-up's own are on top.
    assert!((30..=100).contains(&awake), "awake at {awake} of 120 minutes");
    // And nothing is lost by it.
    for _ in 0..30 {
        platform.clock.advance(FIVE_MINUTES);
        platform.deliver_due().await;
        if platform.app.webhooks.counts(alice.instance.id).waiting == 0 {
            break;
        }
    }
    let bodies: Vec<usize> = platform.receiver.bodies().iter().map(|body| body.parse().unwrap()).collect();
    assert_eq!(bodies, (0..sent).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn webhooks_over_a_limit_are_refused_with_a_sentence() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    open(&platform, &alice, HOOK).await;
    let just = "x".repeat(MAX_BODY_BYTES);
    assert_eq!(post(&platform, HOOK, &just).await.status, 202);
    let refused = post(&platform, HOOK, &format!("{just}x")).await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (413, "too_large"));
    let refused = post(&platform, &format!("{HOOK}?{}", "x".repeat(9_000)), "").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (414, "target_too_long"));
    let refused = platform.send("POST", HOST, HOOK, &[("x", &"x".repeat(17_000))], "").await;
    assert_eq!((refused.status, refused.json()["code"].as_str().unwrap()), (431, "head_too_large"));
    until_delivered(&platform, &alice).await;

    // The program accepts nothing, and the inbox fills.
    let stubborn = vec![Reply::Says(500); 100];
    platform.receiver.will(&stubborn);
    let mut last = post(&platform, HOOK, &just).await;
    for _ in 0..20 {
        last = post(&platform, HOOK, &just).await;
        if last.status != 202 {
            break;
        }
    }
    assert_eq!((last.status, last.json()["code"].as_str().unwrap()), (507, "inbox_full"));
    assert!(!last.header("retry-after").is_empty() && last.json()["detail"].as_str().unwrap().contains("full"));
    assert_eq!(platform.app.webhooks.counts(alice.instance.id).waiting, 15);
    // Refused requests count as well: a flood soon meets the rate limit.
    let mut statuses = Vec::new();
    for _ in 0..150 {
        statuses.push(post(&platform, HOOK, "").await.status);
    }
    let last = post(&platform, HOOK, "").await;
    assert_eq!((last.status, last.json()["code"].as_str().unwrap()), (429, "too_many"));
    assert!(!last.header("retry-after").is_empty());
    assert_eq!(platform.get("app.example.com", "/log-in", &[]).await.status, 200, "everything else goes on");
}

#[tokio::test]
async fn deleting_an_instances_webhooks_leaves_nothing() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let (webhooks, id) = (&platform.app.webhooks, alice.instance.id);
        open(&platform, &alice, HOOK).await;
        platform.receiver.will(&[Reply::Says(410)]);
        post(&platform, HOOK, "x").await;
        post(&platform, HOOK, "y").await;
        platform.receiver.until(2).await;
        until_delivered(&platform, &alice).await;
        let tx = platform.app.db.begin().await.unwrap();
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
        let mut platform = FakePlatform::on(database, &[]).await;
        let mut alice = platform.settle_in("alice").await;
        for path in ["/hooks/a", "/hooks/b", "/hooks/c"] {
            open(&platform, &alice, path).await;
        }
        let mut accepted: Vec<(String, String)> = Vec::new();
        for step in 0..60 {
            match random.random_range(0..10) {
                0..4 => {
                    let path = ["/hooks/a", "/hooks/b", "/hooks/c"][random.random_range(0..3)];
                    let answer = post(&platform, path, &step.to_string()).await;
                    if answer.status == 202 {
                        accepted.push((path.into(), answer.json()["delivery"].as_str().unwrap().into()));
                    }
                }
                4 => platform.receiver.will(&[Reply::Says(500)]),
                5 => platform.receiver.will(&[Reply::Hangs]),
                6 => platform.host.fail_next(Verb::Start, HostError::Unreachable),
                7 => {
                    let _ = platform.instances().sleep(&alice.instance, Wish::Frozen, Cause::OwnerAsked).await;
                }
                8 => {
                    platform.restart().await;
                    alice.instance = platform.instances().all()[0].clone();
                }
                _ => platform.clock.advance(Duration::from_secs(random.random_range(0..600))),
            }
            // Real time: the next step meets the deliveries at a random moment.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        // Nothing breaks any more.
        platform.receiver.takes_all();
        platform.restart().await;
        alice.instance = platform.instances().all()[0].clone();
        for _ in 0..60 {
            if platform.app.webhooks.counts(alice.instance.id).waiting == 0 {
                break;
            }
            platform.clock.advance(FIVE_MINUTES);
            platform.deliver_due().await;
        }
        let counts = platform.app.webhooks.counts(alice.instance.id);
        assert_eq!((counts.waiting, counts.dead_letters, counts.bytes), (0, 0, 0), "seed {seed}");
        let seen = platform.receiver.seen().clone();
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
