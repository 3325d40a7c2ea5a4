//! Fault-tolerant reading of the modules' rows: one that cannot be parsed is set aside, at the start and in lists.

use std::time::Duration;

use berth::alarms::Schedule;
use berth::app::App;
use berth::modules::Verdict;
use berth::sharing::ShareAudience;
use berth::webhooks::{DeliveryState, PathSuffix, WebhookRequest};
use berth_containers::ContainerHost as _;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::person::Person;
use berth_testing::web_client::WebFixture;
use sea_orm::ConnectionTrait as _;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What is altered in the rows of one person, `@` stands for the id of the instance.
const ALTERED: [&str; 8] = [
    "UPDATE instances SET fact = 'hovering' WHERE id = @",
    "UPDATE shares SET audience = 'martians' WHERE instance_id = @",
    "UPDATE alarms SET at_ms = 1, due_at_ms = 1 WHERE instance_id = @",
    "UPDATE webhook_deliveries SET state = 'lost' WHERE instance_id = @",
    "UPDATE webhook_paths SET opened_at_ms = 'once' WHERE instance_id = @",
    "UPDATE domains SET missed = 'often' WHERE instance_id = @",
    "INSERT INTO certificates VALUES ('--', 0)",
    "INSERT INTO declared_jobs VALUES (@, 'build', 'now', 9000000000000)",
];

async fn change(app: &App, statement: &str) {
    let tx = app.db.begin().await.unwrap();
    tx.execute_unprepared(statement).await.unwrap();
    tx.commit().await.unwrap();
}

/// A row of everything that the start reads.
async fn fill(world: &FakePlatform, person: &Person) {
    let instance = &person.instance;
    world.app.sharing.add(instance, "/docs", ShareAudience::Everyone { wakes: false }).await.unwrap();
    world.app.alarms.set(instance.id, "nightly", Schedule::Cron("30 3 * * *".into()), None).await.unwrap();
    world.app.domains.claim(instance, &format!("docs.{}.org", person.handle)).await.unwrap();
    world.app.webhooks.open_path(instance.id, "/hooks/a", PathSuffix::None).await.unwrap();
    let (target, headers) = ("/hooks/a".to_owned(), Vec::new());
    let request = WebhookRequest { method: "POST".into(), target, headers, body: "x".into() };
    world.app.webhooks.enqueue(instance.id, request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_parsed_stop_neither_the_start_nor_the_others() {
    let mut world = FakePlatform::new(&[("BERTH_TLS_ISSUER", "acme"), ("BERTH_CERTIFICATES_A_WEEK", "50")]).await;
    let (alice, boris) = (world.settle_in("alice").await, world.settle_in("boris").await);
    for person in [&alice, &boris] {
        fill(&world, person).await;
    }
    world.kill().await;
    for statement in ALTERED {
        change(&world.app, &statement.replace('@', &format!("X'{}'", alice.instance.id.0.simple()))).await;
    }
    let one_of_his = format!(
        "UPDATE transitions SET cause = 'boredom' WHERE id =
            (SELECT id FROM transitions WHERE instance_id = X'{}' ORDER BY at_ms LIMIT 1)",
        boris.instance.id.0.simple()
    );
    let all_of_his = world.app.instances.history(boris.instance.id, 99).await.unwrap().len();
    change(&world.app, &one_of_his).await;

    world.start().await;
    let (app, hers, his) = (&world.app, alice.instance.id, boris.instance.id);
    assert!(app.instances.by_id(hers).is_none() && app.instances.by_id(his).is_some());
    world.visit(&app.instances.by_id(his).unwrap()).await;
    assert_eq!(app.instances.history(his, 99).await.unwrap().len(), all_of_his - 1);
    let alarms = [app.alarms.of(hers).await.unwrap().len(), app.alarms.of(his).await.unwrap().len()];
    assert_eq!(alarms, [0, 1]);
    let deliveries = app.webhooks.deliveries(his, DeliveryState::Delivered, 9).await.unwrap().len()
        + app.webhooks.deliveries(his, DeliveryState::Waiting, 9).await.unwrap().len();
    assert_eq!([app.webhooks.paths(hers).len(), app.webhooks.paths(his).len(), deliveries], [0, 1, 1]);

    // Her container is no orphan: it runs on, and goes on when the row is restored.
    for _ in 0..3 {
        world.wait(DAY).await;
    }
    assert_eq!(app.alarms.of(his).await.unwrap().len(), 1);
    let seen = world.host.list().await.unwrap();
    assert!(seen.iter().any(|seen| seen.instance == hers && seen.container.is_some()), "{seen:?}");
    let findings = App::examine(&app.config, world.clock.clone(), std::sync::Arc::new(world.host.clone())).await;
    let broken = findings.iter().find(|finding| finding.subject == "platform" && finding.verdict == Verdict::Broken);
    assert!(!broken.is_some_and(|finding| finding.sentence.contains("cannot start")), "{broken:?}");

    world.kill().await;
    change(&world.app, "UPDATE instances SET fact = 'awake' WHERE fact = 'hovering'").await;
    world.start().await;
    assert!(world.app.instances.by_id(hers).is_some());
}

#[tokio::test]
async fn an_account_or_passkey_that_cannot_be_parsed_is_left_out_of_its_list() {
    let site = WebFixture::new().await;
    let (mut olivia, _boris) = (site.operator("olivia").await, site.member("boris").await);
    let mut alice = site.member("alice").await;
    change(&site.app, "UPDATE accounts SET role = 'emperor' WHERE handle = 'boris'").await;
    let users = olivia.get("/admin").await.text().await;
    assert!(users.contains("alice") && !users.contains("boris"), "{users}");
    change(
        &site.app,
        "UPDATE passkeys SET passkey = '' WHERE account_id = (SELECT id FROM accounts WHERE handle = 'alice')",
    )
    .await;
    assert_eq!(alice.get("/passkeys").await.status.as_u16(), 200);
}
