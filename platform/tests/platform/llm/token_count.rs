//! Token counting at admission: calls that do not fit by their bytes, and fit by the provider's count.

use std::sync::Arc;
use std::time::Duration;

use berth::config::Providers;
use berth::llm::ProxyTimeouts;
use berth_ground::money::Nanodollars;
use futures_util::StreamExt as _;
use serde_json::{Value, json as value};

use super::outages::silent_after;
use super::{COMPLETIONS, MESSAGES, RESPONSES};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, json};
use berth_testing::stub_provider::{CannedResponse, StubProvider};
use berth_testing::{Database, databases, sqlite};

/// Four cents, in nano-dollars.
const LEFT: i64 = 40_000_000;

/// A platform with a stub provider, and a person who has four cents left.
async fn nearly_spent(database: Database) -> (QuotaPlatform, Person, StubProvider) {
    let (provider, address) = StubProvider::listen().await;
    let world = at(database, &format!("http://{address}")).await;
    let alice = world.person("alice").await;
    (world, alice, provider)
}

async fn at(database: Database, url: &str) -> QuotaPlatform {
    QuotaPlatform::on(database, |config| {
        config.limits.month_nanodollars = Nanodollars(LEFT);
        config.anthropic.url = url.into();
        config.openai.url = url.into();
    })
    .await
}

/// A call that would cost thirteen cents if each of its bytes were a token.
fn long_message() -> Value {
    let text = "word ".repeat(8000);
    value!({ "model": "claude-sonnet-4-6", "max_tokens": 100, "messages": [{ "role": "user", "content": text }] })
}

/// A call with an image, which is bounded only by the model's context window.
fn picture() -> Value {
    let picture = value!({ "type": "input_image", "image_url": "data:image/png;base64,AAAA" });
    let input = value!([{ "role": "user", "content": [picture] }]);
    value!({ "model": "gpt-5", "max_output_tokens": 100, "input": input, "store": false })
}

fn count(tokens: u64) -> CannedResponse {
    CannedResponse::json(format!(r#"{{"input_tokens":{tokens}}}"#))
}

fn answer(input: u64, output: u64) -> CannedResponse {
    CannedResponse::json(format!(r#"{{"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_too_large_by_its_bytes_is_made_when_the_provider_counts_few_enough_tokens() {
    for database in databases().await {
        let kind = database.kind;
        let (world, alice, provider) = nearly_spent(database).await;
        provider.will_answer([count(8000), answer(8100, 50)]);
        let says = alice.post(&world, MESSAGES, &long_message()).header("anthropic-beta", "b-1").send().await.unwrap();
        assert_eq!(says.status(), 200, "{kind}");
        drop(says.bytes().await);
        let [asked, made] = provider.requests().try_into().unwrap();
        assert_eq!((asked.uri.path(), made.uri.path()), ("/v1/messages/count_tokens", "/v1/messages"));
        assert_eq!(asked.headers["anthropic-beta"], "b-1");
        let mut input = long_message();
        input.as_object_mut().unwrap().remove("max_tokens");
        assert_eq!(serde_json::from_slice::<Value>(&asked.body).unwrap(), input);
        assert_eq!(made.body, long_message().to_string());
        let receipt = world.app.quota.ledger.receipts(alice.instance.account, 1).await.unwrap().remove(0);
        // Held: a tenth more than the count, and 256 tokens, in the dearest region. Charged: the provider's figures.
        assert_eq!(receipt.held_nanodollars.0, (8000 + 800 + 256) * 3300 + 100 * 16_500, "{kind}");
        assert_eq!((receipt.amount_nanodollars.0, receipt.basis.as_str()), (8100 * 3000 + 50 * 15_000, "provider"));
        let bob = world.person("bob").await;
        provider.will_answer([count(1000), answer(1000, 50)]);
        let says = bob.post(&world, RESPONSES, &picture()).send().await.unwrap();
        assert_eq!(says.status(), 200, "{kind}");
        drop(says.bytes().await);
        assert_eq!(provider.requests().remove(0).uri.path(), "/v1/responses/input_tokens");
        let receipt = world.app.quota.ledger.receipts(bob.instance.account, 1).await.unwrap().remove(0);
        assert_eq!(receipt.held_nanodollars.0, (1000 + 100 + 512) * 1250 + 100 * 10_000, "{kind}");
        world.spend_at_rest(&bob).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_is_too_high_refuses_and_says_what_the_call_could_cost_by_it() {
    let (world, alice, provider) = nearly_spent(sqlite().await).await;
    provider.will_answer([count(20_000)]);
    let refused = alice.post(&world, MESSAGES, &long_message()).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-should-retry"]), (429, &"false".parse().unwrap()));
    let said = json(refused).await["error"]["message"].to_string();
    assert!(said.contains("up to $0.0750948, and $0.04 is left"), "{said}");
    assert_eq!(provider.requests().len(), 1);
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_above_the_count_is_charged_by_the_providers_figures() {
    let (world, alice, provider) = nearly_spent(sqlite().await).await;
    provider.will_answer([count(8000), answer(12_000, 100)]);
    assert_eq!(alice.post(&world, MESSAGES, &long_message()).send().await.unwrap().status(), 200);
    assert_eq!(world.receipt(&alice).await.0, 12_000 * 3000 + 100 * 15_000);
}

/// Asserts that a call was refused by its bytes: the message names the most that it could cost by them.
async fn assert_refused_by_its_bytes(answer: reqwest::Response, why: &str) {
    assert_eq!(answer.status(), 429, "{why}");
    let error = json(answer).await;
    assert_eq!(error["error"]["details"]["error_code"], "enforced_spend_limit_reached", "{why}");
    assert!(error["error"]["message"].as_str().unwrap().contains("up to $0.134"), "{why}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usable_count_a_call_is_refused_by_its_bytes() {
    let (world, alice, provider) = nearly_spent(sqlite().await).await;
    for says in [
        CannedResponse::error(400, &[], r#"{"input_tokens":1}"#),
        CannedResponse::error(404, &[], ""),
        CannedResponse::error(500, &[], ""),
        CannedResponse::json("nonsense"),
        CannedResponse::json("[]"),
        CannedResponse::json(r#"{"tokens":8000}"#),
        CannedResponse::json(r#"{"input_tokens":0}"#),
        CannedResponse::json(r#"{"input_tokens":-8000}"#),
        CannedResponse::json(r#"{"input_tokens":"8000"}"#),
        CannedResponse::json(format!(r#"{{"input_tokens":8000{}}}"#, " ".repeat(5000))),
    ] {
        let why = format!("{says:?}");
        provider.will_answer([says]);
        let refused = alice.post(&world, MESSAGES, &long_message()).send().await.unwrap();
        assert_refused_by_its_bytes(refused, &why).await;
        assert_eq!(provider.requests().len(), 1, "{why}");
    }
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_or_does_not_count_in_time_is_not_waited_for() {
    let silent = silent_after("").await;
    let hesitating = silent_after("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"input_tok").await;
    for url in ["http://127.0.0.1:9".into(), format!("http://{silent}"), format!("http://{hesitating}")] {
        let world = at(sqlite().await, &url).await;
        let alice = world.person("alice").await;
        let proxy =
            world.proxy_with(ProxyTimeouts { count: Duration::from_millis(150), ..ProxyTimeouts::default() }).await;
        let refused = alice.post_by(proxy, MESSAGES, &long_message()).send().await.unwrap();
        assert_refused_by_its_bytes(refused, &url).await;
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_requested_for_a_call_that_fits_or_that_no_count_can_make_fit() {
    let (world, alice, provider) = nearly_spent(sqlite().await).await;
    let mut short = long_message();
    short["messages"][0]["content"] = "hi".into();
    provider.will_answer([answer(1, 1)]);
    assert_eq!(alice.post(&world, MESSAGES, &short).send().await.unwrap().status(), 200);
    assert_eq!(provider.requests().len(), 1, "it fits");
    // The answer alone may cost more than is left; the image is behind a URL; the API has no counting endpoint.
    let mut talkative = long_message();
    talkative["max_tokens"] = 64_000.into();
    let mut fetched = long_message();
    fetched["messages"][0]["content"] =
        value!([{ "type": "image", "source": { "type": "url", "url": "https://example.com/x.png" } }]);
    let chat = value!({ "model": "gpt-5", "max_completion_tokens": 100, "messages": long_message()["messages"] });
    for (path, body) in [(MESSAGES, talkative), (MESSAGES, fetched), (COMPLETIONS, chat)] {
        assert_eq!(alice.post(&world, path, &body).send().await.unwrap().status(), 429, "{path}");
    }
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_providers_are_not_asked_for_a_count() {
    let (provider, address) = StubProvider::listen().await;
    let model = value!({ "input": "3.00", "output": "15.00", "max_input_tokens": 900_000, "max_output_tokens": 1000 });
    let models = value!({ "claude-sonnet-4-6": model });
    let file = value!({ "models": { "nearby": { "speaks": "anthropic", "url": format!("http://{address}"), "models": models } } });
    let Ok(providers) = Providers::parse(&file.to_string()) else { panic!("the file is wrong") };
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.month_nanodollars = Nanodollars(LEFT);
        config.providers = providers;
    })
    .await;
    let alice = world.person("alice").await;
    let refused = alice.post(&world, "/nearby/v1/messages", &long_message()).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_admits_a_call_that_has_too_many_bytes_for_this_minutes_tokens() {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.tokens_a_minute = Some(20_000);
        config.anthropic.url = format!("http://{address}");
    })
    .await;
    let alice = world.person("alice").await;
    let mut short = long_message();
    short["messages"][0]["content"] = "hi".into();
    // An untouched minute admits a call of any size.
    provider.will_answer([answer(500, 1)]);
    assert_eq!(alice.post(&world, MESSAGES, &short).send().await.unwrap().status(), 200);
    provider.will_answer([count(19_000)]);
    let refused = alice.post(&world, MESSAGES, &long_message()).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (429, true));
    provider.will_answer([count(8000), answer(8000, 1)]);
    assert_eq!(alice.post(&world, MESSAGES, &long_message()).send().await.unwrap().status(), 200);
    world.spend_at_rest(&alice).await;
}

/// Refused calls must not cause unlimited requests to the provider.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_counts_run_at_once_than_an_instance_has_request_slots() {
    let silent = silent_after("").await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.month_nanodollars = Nanodollars(LEFT);
        config.limits.calls_at_once = 1;
        config.anthropic.url = format!("http://{silent}");
    })
    .await;
    let alice = Arc::new(world.person("alice").await);
    let proxy = world.proxy_with(ProxyTimeouts { count: Duration::from_secs(600), ..ProxyTimeouts::default() }).await;
    let mut calls: futures_util::stream::FuturesUnordered<_> = (0..8)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.post_by(proxy, MESSAGES, &long_message()).send().await.unwrap() })
        })
        .collect();
    for _ in 0..5 {
        let refused = calls.next().await.unwrap().unwrap();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    }
    assert_eq!(world.app.quota.reports.budget(alice.instance.account).await.unwrap().calls_at_once.in_flight, 0);
    assert!(calls.iter().all(|call| !call.is_finished()), "three are being counted");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}
