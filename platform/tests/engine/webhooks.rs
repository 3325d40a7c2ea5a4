//! Webhooks and alarms that wake a real container, frozen and stopped.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use berth::alarms::Schedule;
use berth::config::ContainerConfig;
use berth::edge::WebhookDispatcher;
use berth::instances::{Cause, Fact, Wish};
use berth::webhooks::{DeliveryState, PathSuffix};
use berth_containers::ContainerHost as _;
use berth_ground::clock::Clock;
use tokio_util::sync::CancellationToken;

use berth_testing::container_hosts::{self, ContainerHosts};
use berth_testing::fake_platform::until;
use berth_testing::person::Person;
use berth_testing::process::start_app;
use berth_testing::wait::eventually;
use berth_testing::{START, config, sqlite};

/// Prefix of the objects that this test creates on the Engine.
const NETWORK: &str = "hooktest";

/// Removes the objects of this test from the Engine, also when the test fails.
struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        container_hosts::sweep_network(NETWORK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_and_an_alarm_wake_a_real_container_and_arrive() {
    let engine = ContainerHosts::engine().await;
    container_hosts::sweep_network(NETWORK);
    let _swept = Swept;
    let database = sqlite().await;
    let mut config = config(&database, &[]);
    config.containers = ContainerConfig {
        network: NETWORK.into(),
        subnet: Ipv4Addr::new(10, 103, 0, 0),
        ..container_hosts::config(engine.dir.path())
    };
    let clock = Clock::manual(START);
    let host = Arc::new(container_hosts::docker(config.containers.clone()));
    host.ensure_networks().await.unwrap();
    let end = CancellationToken::new();
    let _ended = end.clone().drop_guard();
    let app = start_app(config, clock.clone(), host, &end).await;
    tokio::spawn(WebhookDispatcher::new(app.clone()).run(end));
    let alice = Person::sign_up(&app, "alice").await.instance;
    until(&alice, |status| status.fact == Fact::Awake).await;
    app.webhooks.open_path(alice.id, "/hooks/github", PathSuffix::None).await.unwrap();
    app.alarms.set(alice.id, "once", Schedule::At(START.plus(Duration::from_secs(60))), None).await.unwrap();
    let edge = berth::serve::public_router(app.clone());

    for (wish, fact) in [(Wish::Frozen, Fact::Frozen), (Wish::Stopped, Fact::Stopped)] {
        app.instances.sleep(&alice, wish, Cause::OwnerAsked).await.unwrap();
        until(&alice, |status| status.fact == fact).await;
        let request = Request::post("/hooks/github").header("host", "alice.example.com").body(Body::from("pushed"));
        let answer = edge.respond(request.unwrap()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        until(&alice, |status| status.fact == Fact::Awake && status.cause == Cause::Webhook).await;
        eventually("the webhook is delivered", async || app.webhooks.counts(alice.id).waiting == 0).await;
    }
    let delivered = app.webhooks.deliveries(alice.id, DeliveryState::Delivered, 9).await.unwrap();
    let told: Vec<_> = delivered.iter().map(|view| (view.attempts, view.last_result.as_deref())).collect();
    assert_eq!(told, [(1, Some("200")), (1, Some("200"))]);

    app.instances.sleep(&alice, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice, |status| status.fact == Fact::Stopped).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(app.alarms.ring_due().await.unwrap(), 1);
    until(&alice, |status| status.fact == Fact::Awake && status.cause == Cause::Alarm).await;
}
