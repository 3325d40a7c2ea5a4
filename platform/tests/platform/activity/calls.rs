//! AI calls keep their instance awake until they are settled, however they end.

use berth::instances::{Fact, Work};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::scene::{FIVE_MINUTES, HALF_AN_HOUR, MINUTE, Scene};

fn message(text: &str, stream: bool) -> Value {
    json!({ "model": "berth-demo", "max_tokens": 2000, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_counts_as_work_until_it_is_settled_although_its_client_disconnected() {
    let scene = Scene::new().await;
    let body = message("x-demo-tokens=300 x-demo-pace-ms=5", true);
    let call = scene.inside("POST", "/anthropic/v1/messages").body(body.to_string());
    let mut stream = call.send().await.unwrap().bytes_stream();
    stream.next().await.unwrap().unwrap();
    assert_eq!(scene.open(Work::AiCall), 1);
    drop(stream);
    let account = scene.alice.instance.account;
    while scene.open(Work::AiCall) == 1 {
        tokio::task::yield_now().await;
    }
    scene.platform.app.quota.settled().await;
    let spend = scene.platform.app.quota.reports.budget(account).await.unwrap();
    assert!(spend.spent_nanodollars.0 > 0 && spend.held_nanodollars.0 == 0, "{spend:?}");
    assert_eq!(scene.last().unwrap().work, Work::AiCall);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_sleeps_after_its_last_call_as_after_any_other_work() {
    let scene = Scene::new().await;
    scene.platform.wait(FIVE_MINUTES - MINUTE).await;
    for stream in [false, true] {
        let call = scene.inside("POST", "/anthropic/v1/messages").body(message("hello", stream).to_string());
        assert!(!call.send().await.unwrap().bytes().await.unwrap().is_empty());
    }
    scene.until_open(Work::AiCall, 0).await;
    scene.platform.wait(FIVE_MINUTES - MINUTE).await;
    assert_eq!(scene.fact(), Fact::Awake);
    scene.platform.wait(MINUTE).await;
    assert_eq!(scene.fact(), Fact::Frozen);
    // A call that is refused before it is sent ends at once.
    let refused = scene.inside("POST", "/anthropic/v1/messages").body("no JSON").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    scene.until_open(Work::AiCall, 0).await;
    scene.platform.wait(HALF_AN_HOUR).await;
    assert_eq!(scene.fact(), Fact::Stopped);
}
