//! The official SDKs, as a program inside the instance uses them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use berth::handle::Handle;
use berth::quota::OwnLimits;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::transcripts::recorded;
use super::until_at_rest;
use berth_testing::quota_platform::QuotaPlatform;
use berth_testing::{python, sqlite};

/// The demo model, and the transcript that a question asks for.
async fn demo_with_transcripts() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let demo = berth::demo::router();
    let router = Router::new().fallback(move |request: Request| {
        let demo = demo.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            match transcript(&body) {
                Some(response) => response,
                None => demo.oneshot(Request::from_parts(parts, Body::from(body))).await.unwrap(),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn transcript(body: &Bytes) -> Option<Response> {
    let text = String::from_utf8_lossy(body);
    let name = text.split_once("recorded:")?.1.split('"').next()?;
    let kind = if name.ends_with(".sse") { "text/event-stream" } else { "application/json" };
    Some(Response::builder().header("content-type", kind).body(recorded(name).into()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdks_work_unchanged_and_do_not_retry_a_spent_allowance() {
    let provider = demo_with_transcripts().await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.anthropic.url = format!("http://{provider}");
        config.openai.url = format!("http://{provider}");
    })
    .await;
    let (alice, slow, frugal) = (world.person("alice").await, world.person("slow").await, world.person("frugal").await);
    // So that a call comes back every other second.
    let mut own = world.app.quota.own_limits(slow.instance.account).await.unwrap();
    own = OwnLimits { requests_a_minute: Some(30), ..own };
    world.app.quota.set_limits(&Handle::parse("slow").unwrap(), own, "the operator").await.unwrap();
    // So that it is less than the longest answer of the demo model can cost.
    let mut own = world.app.quota.own_limits(frugal.instance.account).await.unwrap();
    own = OwnLimits { month_nanodollars: Some(2_000_000), ..own };
    world.app.quota.set_limits(&Handle::parse("frugal").unwrap(), own, "the operator").await.unwrap();
    let run = tokio::process::Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sdk_calls.py"))
        .env("ANTHROPIC_BASE_URL", format!("http://{}/anthropic", world.proxy))
        .env("ANTHROPIC_API_KEY", &alice.token)
        .env("OPENAI_BASE_URL", format!("http://{}/openai/v1", world.proxy))
        .env("OPENAI_API_KEY", &alice.token)
        .env("LOCAL_ADDRESS", alice.instance.address().to_string())
        .env("SLOW_API_KEY", &slow.token)
        .env("SLOW_ADDRESS", slow.instance.address().to_string())
        .env("FRUGAL_API_KEY", &frugal.token)
        .env("FRUGAL_ADDRESS", frugal.instance.address().to_string())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    until_at_rest(&world, alice.instance.account).await;
    let spend = world.spend_at_rest(&alice).await;
    assert!(spend.by_model.iter().map(|model| model.calls).sum::<i64>() >= 50, "{spend:?}");
}
