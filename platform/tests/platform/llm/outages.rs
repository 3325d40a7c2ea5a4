//! Provider outages: unreachable, slow, silent or overloaded providers, and refused keys.

use std::time::Duration;

use berth::llm::ProxyTimeouts;
use serde_json::{Value, json as value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use zeroize::Zeroizing;

use super::{COMPLETIONS, MESSAGES, until_settled};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, json};
use berth_testing::sqlite;
use berth_testing::stub_provider::{CannedResponse, StubProvider};

const SOON: Duration = Duration::from_millis(150);

fn call(path: &str, stream: bool) -> Value {
    let limit = if path == MESSAGES { "max_tokens" } else { "max_completion_tokens" };
    value!({ "model": "berth-demo", limit: 100, "stream": stream, "messages": [] })
}

/// A platform with both providers at `address`, and `keys` for them.
async fn with_keys(address: std::net::SocketAddr, keys: &[&str]) -> (QuotaPlatform, Person) {
    let world = QuotaPlatform::on(sqlite().await, |config| {
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.url = format!("http://{address}");
            upstream.keys = keys.iter().map(|key| Zeroizing::new((*key).to_owned())).collect();
        }
    })
    .await;
    let alice = world.person("alice").await;
    (world, alice)
}

fn answer() -> CannedResponse {
    CannedResponse::json(r#"{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1}}"#)
}

/// The keys of the requests that the provider received.
fn keys(provider: &StubProvider) -> Vec<String> {
    let key =
        |heard: berth_testing::stub_provider::RecordedRequest| heard.headers["x-api-key"].to_str().unwrap().to_owned();
    provider.requests().into_iter().map(key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_cools_down_and_another_one_is_used() {
    let (provider, address) = StubProvider::listen().await;
    let (world, alice) = with_keys(address, &["one", "two"]).await;
    let mut used = Vec::new();
    for status in [429, 401, 403, 529] {
        let busy = CannedResponse::error(status, &[("retry-after", "60")], "{}");
        provider.will_answer([busy, answer()]);
        let says = alice.post(&world, MESSAGES, &call(MESSAGES, false)).send().await.unwrap();
        used = keys(&provider);
        assert!(says.status() == 200 || used.len() == 1, "{status}: {used:?}");
    }
    // After the first refusal one key cools down, after the second both do, and each call is tried once.
    assert_eq!(used.len(), 1);
    assert_eq!(world.spend_at_rest(&alice).await.held_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limited_key_is_not_used_while_another_one_serves() {
    let (provider, address) = StubProvider::listen().await;
    let (world, alice) = with_keys(address, &["one", "two"]).await;
    provider.will_answer([CannedResponse::error(429, &[("retry-after", "60")], "{}"), answer()]);
    for _ in 0..3 {
        let says = alice.post(&world, MESSAGES, &call(MESSAGES, true)).send().await.unwrap();
        assert_eq!(says.status(), 200);
        drop(says.bytes().await);
    }
    let used = keys(&provider);
    assert_eq!(used.len(), 4, "one call in two tries, and two that knew: {used:?}");
    assert!(used[0] != used[1] && used[1..].iter().all(|key| *key == used[1]), "{used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_message_about_the_platforms_keys_is_not_shown() {
    let (provider, address) = StubProvider::listen().await;
    let (world, alice) = with_keys(address, &["one", "two"]).await;
    provider.will_answer([CannedResponse::error(
        401,
        &[],
        r#"{"error":{"message":"Incorrect API key provided: one"}}"#,
    )]);
    for path in [MESSAGES, COMPLETIONS] {
        let says = alice.post(&world, path, &call(path, true)).send().await.unwrap();
        assert_eq!(says.status(), 502);
        let error = json(says).await;
        assert!(!error.to_string().contains("one") && error["error"]["message"].is_string(), "{error}");
    }
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_retried_only_where_the_provider_asks_for_it() {
    let (provider, address) = StubProvider::listen().await;
    let (world, alice) = with_keys(address, &["one"]).await;
    for (status, headers, tries) in [
        (500, &[("x-should-retry", "true")][..], 2),
        (503, &[("x-should-retry", "true"), ("retry-after", "0")], 2),
        (503, &[("x-should-retry", "true"), ("retry-after", "30")], 1),
        (500, &[("x-should-retry", "false")], 1),
        (500, &[], 1),
        (529, &[], 1),
        (429, &[("retry-after", "1")], 1),
    ] {
        provider.will_answer([CannedResponse::error(status, headers, "{}")]);
        let says = alice.post(&world, MESSAGES, &call(MESSAGES, false)).send().await.unwrap();
        assert_eq!(says.status().as_u16(), status);
        assert_eq!(provider.requests().len(), tries, "{status} {headers:?}");
    }
    provider.will_answer([CannedResponse::error(500, &[("x-should-retry", "true")], "{}"), answer()]);
    let says = alice.post(&world, MESSAGES, &call(MESSAGES, false)).send().await.unwrap();
    assert_eq!(says.status(), 200);
    // One input token and one output token.
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 600);
}

/// A server that accepts connections, writes `words`, and is silent from then on.
pub async fn silent_after(words: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(words.as_bytes()).await.unwrap();
            kept.push(stream);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_provider_causes_a_timeout() {
    let timeouts = ProxyTimeouts { first_byte: SOON, between_bytes: SOON, ..ProxyTimeouts::default() };
    let (world, alice) = with_keys(silent_after("").await, &["one"]).await;
    let proxy = world.proxy_with(timeouts).await;
    for (path, stream) in [(MESSAGES, true), (MESSAGES, false), (COMPLETIONS, true), (COMPLETIONS, false)] {
        let says = alice.post_by(proxy, path, &call(path, stream)).send().await.unwrap();
        assert_eq!(says.status(), 504, "{path} {stream}");
        let kind = if path == MESSAGES { "timeout_error" } else { "server_error" };
        assert_eq!(json(says).await["error"]["type"], kind);
    }
    // The provider may have generated an answer, so the whole hold is charged.
    assert!(world.spend_at_rest(&alice).await.spent_nanodollars.0 > 4 * 100 * 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_breaks_off() {
    let begun =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\n: hi\n\n\n\r\n";
    let timeouts = ProxyTimeouts { between_bytes: SOON, ..ProxyTimeouts::default() };
    let (world, alice) = with_keys(silent_after(begun).await, &["one"]).await;
    let proxy = world.proxy_with(timeouts).await;
    let says = alice.post_by(proxy, MESSAGES, &call(MESSAGES, true)).send().await.unwrap();
    assert_eq!(says.status(), 200);
    assert!(says.bytes().await.is_err());
    until_settled(&world, alice.instance.account).await;
    let (_, basis, outcome) = world.receipt(&alice).await;
    assert_eq!((basis.as_str(), outcome.as_str()), ("held", "upstream_broke"));
}

/// After one connection timeout the next calls fail at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_accepts_no_connection_is_not_tried_by_every_call() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SOON, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let (world, alice) = with_keys(address, &["one"]).await;
    let proxy = world.proxy_with(ProxyTimeouts { connect: SOON, ..ProxyTimeouts::default() }).await;
    for path in [MESSAGES, COMPLETIONS, MESSAGES, COMPLETIONS] {
        let says = alice.post_by(proxy, path, &call(path, true)).send().await.unwrap();
        assert_eq!(says.status(), 502, "{path}");
        assert!(json(says).await["error"]["message"].as_str().unwrap().contains("could not be reached"));
    }
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_own_rate_limits_are_in_the_providers_headers() {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.anthropic.url = format!("http://{address}");
        config.openai.url = format!("http://{address}");
        config.limits.requests_a_minute = Some(50);
    })
    .await;
    let alice = world.person("alice").await;
    provider
        .will_answer([CannedResponse { headers: vec![("anthropic-ratelimit-requests-remaining", "7")], ..answer() }]);
    let says = alice.post(&world, MESSAGES, &call(MESSAGES, false)).send().await.unwrap();
    assert_eq!(says.headers()["anthropic-ratelimit-requests-limit"], "50");
    assert_eq!(says.headers()["anthropic-ratelimit-requests-remaining"], "49");
    assert!(says.headers().contains_key("anthropic-ratelimit-requests-reset"));
    let says = alice.post(&world, COMPLETIONS, &call(COMPLETIONS, false)).send().await.unwrap();
    assert_eq!(says.headers()["x-ratelimit-limit-requests"], "50");
    assert!(!says.headers().contains_key("x-ratelimit-limit-tokens"));
}
