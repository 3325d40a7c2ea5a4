//! The official SDKs, used as by a program inside the instance.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use berth::quota::admission::AccountLimits;
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::transcripts::recorded;
use super::until_settled;
use berth_testing::quota_platform::QuotaPlatform;
use berth_testing::{python, sqlite};

/// The demo model, which also plays back a transcript when the prompt names one.
async fn demo_with_transcripts() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let demo = berth_demo::router();
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
    // At this limit a refused call may be repeated after two seconds.
    let mut own = world.app.quota.admission.own_limits(slow.instance.account).await.unwrap();
    own = AccountLimits { requests_a_minute: Some(30), ..own };
    world.app.quota.admission.set_limits(&Handle::parse("slow").unwrap(), own, "the operator").await.unwrap();
    // Less than the longest answer of the demo model can cost.
    let mut own = world.app.quota.admission.own_limits(frugal.instance.account).await.unwrap();
    own = AccountLimits { month_nanodollars: Some(Nanodollars(2_000_000)), ..own };
    world.app.quota.admission.set_limits(&Handle::parse("frugal").unwrap(), own, "the operator").await.unwrap();
    let run = tokio::process::Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sdk_calls.py"))
        .env("ANTHROPIC_BASE_URL", format!("http://{}/anthropic", world.proxy))
        .env("ANTHROPIC_API_KEY", alice.token())
        .env("OPENAI_BASE_URL", format!("http://{}/openai/v1", world.proxy))
        .env("OPENAI_API_KEY", alice.token())
        .env("LOCAL_ADDRESS", alice.instance.address().to_string())
        .env("SLOW_API_KEY", slow.token())
        .env("SLOW_ADDRESS", slow.instance.address().to_string())
        .env("FRUGAL_API_KEY", frugal.token())
        .env("FRUGAL_ADDRESS", frugal.instance.address().to_string())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    until_settled(&world, alice.instance.account).await;
    world.spend_at_rest(&alice).await;
    let models = world.app.quota.reports.models_this_month(alice.instance.account).await.unwrap();
    assert!(models.iter().map(|model| model.calls).sum::<i64>() >= 50, "{models:?}");
}
