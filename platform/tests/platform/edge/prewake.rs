//! Prewake: a login on the way to an instance wakes it before the redirects are followed, and not before the owner has
//! proved who they are.

use super::*;
use berth_testing::web_client::WebClient;

/// A person with a sleeping instance and a browser that is logged out.
async fn away() -> (FakePlatform, WebClient, std::sync::Arc<berth::instances::Instance>) {
    let platform = FakePlatform::new(&[]).await;
    let mut alice = WebClient::of(&platform.app);
    alice.sign_up("handle=alice").await;
    let instance = platform.instances().by_handle(&berth_ground::handle::Handle::parse("alice").unwrap()).unwrap();
    until(&instance, |s| s.fact == Fact::Awake).await;
    platform.instances().sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&instance, |s| s.fact == Fact::Stopped).await;
    platform.instances().settled().await;
    alice.post("/log-out", "").await;
    (platform, alice, instance)
}

fn on_the_way_to(host: &str) -> String {
    format!("%2Fhand-off%3Fhost%3D{host}%26state%3Ds%26challenge%3D{}", "c".repeat(43))
}

/// Logs in, with a one-time code if required; the address that the page goes to next.
async fn log_in(visitor: &mut WebClient, host: &str) -> String {
    let next = if host.is_empty() { String::new() } else { on_the_way_to(host) };
    let then = visitor.present_passkey(&format!("?next={next}")).await;
    if !then.starts_with("/log-in/code") {
        return then;
    }
    let code = format!("code={}&next={next}", visitor.fresh_code());
    visitor.post("/log-in/code", &code).await.in_short()
}

#[tokio::test]
async fn the_instance_wakes_as_soon_as_its_owner_has_logged_in() {
    let (platform, mut alice, instance) = away().await;
    alice.get(&format!("/log-in?next={}", on_the_way_to("alice.example.com"))).await;
    let options = alice.post_json("/log-in/challenge", &serde_json::json!({})).await;
    assert_eq!(options.status, 200);
    platform.look().await;
    assert_eq!(instance.fact(), Fact::Stopped, "so far no proof of identity is needed");
    log_in(&mut alice, "alice.example.com").await;
    // Before the hand-off was requested.
    until(&instance, |s| s.fact == Fact::Awake && s.cause == Cause::Visit).await;
}

#[tokio::test]
async fn a_log_in_that_leads_elsewhere_wakes_nothing() {
    let (platform, mut alice, instance) = away().await;
    let mut bob = WebClient::of(&platform.app);
    bob.sign_up("handle=bobby").await;
    for host in ["", "bobby.example.com", "app.example.com", "evil.test"] {
        log_in(&mut alice, host).await;
        alice.post("/log-out", "").await;
    }
    bob.post("/log-out", "").await;
    log_in(&mut bob, "alice.example.com").await;
    platform.look().await;
    assert_eq!(instance.fact(), Fact::Stopped);
}
