//! Clamping: calls that prefer a shorter answer to a refusal.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use berth::quota::admission::AccountLimits;
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json as value};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::transcripts::recorded;
use super::{COMPLETIONS, MESSAGES, RESPONSES, until_settled};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, json};
use berth_testing::stub_provider::{CannedResponse, StubProvider};
use berth_testing::{Database, databases, sqlite};

/// Four cents, in nano-dollars.
const LEFT: i64 = 40_000_000;
const CLAMP: (&str, &str) = ("x-berth-clamp", "max-tokens");
const LOWERED_TO: &str = "x-berth-max-tokens";

async fn nearly_spent(database: Database) -> (QuotaPlatform, StubProvider) {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(database, |config| {
        config.limits.month_nanodollars = Nanodollars(LEFT);
        config.anthropic.url = format!("http://{address}");
        config.openai.url = format!("http://{address}");
    })
    .await;
    (world, provider)
}

fn answer() -> CannedResponse {
    CannedResponse::json(r#"{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1}}"#)
}

fn count(tokens: u64) -> CannedResponse {
    CannedResponse::json(format!(r#"{{"input_tokens":{tokens}}}"#))
}

/// Sends a clamped call with `body`.
async fn call(world: &QuotaPlatform, person: &Person, path: &str, body: &str) -> reqwest::Response {
    asking(world, person, path, body).send().await.unwrap()
}

fn asking(world: &QuotaPlatform, person: &Person, path: &str, body: &str) -> reqwest::RequestBuilder {
    person.post(world, path, &Value::Null).header(CLAMP.0, CLAMP.1).body(body.to_owned())
}

/// The lowered limit in the response header, in tokens.
fn lowered_to(answer: &reqwest::Response) -> Option<i64> {
    answer.headers().get(LOWERED_TO).map(|tokens| tokens.to_str().unwrap().parse().unwrap())
}

async fn held(world: &QuotaPlatform, person: &Person) -> i64 {
    world.app.quota.ledger.receipts(person.instance.account, 1).await.unwrap()[0].held_nanodollars.0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_as_long_as_the_budget_buys_and_the_rest_of_the_body_is_unchanged() {
    for database in databases().await {
        let kind = database.kind;
        let (world, provider) = nearly_spent(database).await;
        let names = ["ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal"];
        // The price of one more token of each answer, and the body before, at and after its limit, as sent and as
        // received.
        for (name, (path, token, before, sent, arrived, after)) in names.into_iter().zip([
            (
                MESSAGES,
                16_500,
                "{ \"model\":\"claude-sonnet-4-6\",\n \"max\\u005ftokens\" : ",
                "64000",
                "LIMIT",
                " ,\"messages\":[{\"role\":\"user\",\"content\":\"h\\u0069\"}], \"top_p\":1.0 }\n",
            ),
            (
                COMPLETIONS,
                10_000,
                r#"{"model":"gpt-5","messages":[],"#,
                r#""max_tokens":100000}"#,
                r#""max_tokens":LIMIT}"#,
                "",
            ),
            (COMPLETIONS, 10_000, r#"{"model":"gpt-5","messages":[]"#, "", r#","max_completion_tokens":LIMIT"#, "}\n"),
            (
                COMPLETIONS,
                10_000,
                r#"{"model":"gpt-5","max_tokens":"#,
                r#"99000,"max_completion_tokens":100000"#,
                r#"LIMIT,"max_completion_tokens":LIMIT"#,
                r#","messages":[]}"#,
            ),
            (
                COMPLETIONS,
                30_000,
                r#"{"n":3,"model":"gpt-5","max_completion_tokens": "#,
                "null",
                "LIMIT",
                r#","messages":[]}"#,
            ),
            (
                COMPLETIONS,
                10_000,
                r#"{"stream":true,"model":"gpt-5","max_completion_tokens":"#,
                r#"100000,"messages":[]"#,
                r#"LIMIT,"messages":[],"stream_options":{"include_usage":true}"#,
                "}",
            ),
            (
                RESPONSES,
                10_000,
                r#"{"model":"gpt-5","input":"hi"}"#.trim_end_matches('}'),
                "",
                r#","max_output_tokens":LIMIT"#,
                "}",
            ),
            (RESPONSES, 10_000, r#"{"max_output_tokens":"#, "128000", "LIMIT", r#","model":"gpt-5","input":"hi"}"#),
        ]) {
            let person = world.person(name).await;
            let whole = if path == COMPLETIONS { vec![answer()] } else { vec![count(20), answer()] };
            provider.will_answer(whole);
            let says = call(&world, &person, path, &format!("{before}{sent}{after}")).await;
            let limit = lowered_to(&says);
            assert_eq!(says.status(), 200, "{kind} {path} {before}: {}", says.text().await.unwrap());
            drop(says.bytes().await);
            let limit = limit.unwrap();
            let made = provider.requests().pop().unwrap();
            assert!(!made.headers.contains_key(CLAMP.0));
            let expected = format!("{before}{}{after}", arrived.replace("LIMIT", &limit.to_string()));
            assert_eq!(String::from_utf8_lossy(&made.body), expected, "{kind} {path}");
            let rest = LEFT - held(&world, &person).await;
            assert!((0..token).contains(&rest), "{kind} {path}: {rest} are left, which buys another token");
            world.spend_at_rest(&person).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_lowered_limit_in_its_head() {
    let (world, provider) = nearly_spent(sqlite().await).await;
    let alice = world.person("alice").await;
    provider.will_answer([count(20), CannedResponse::events(recorded("messages/cache.sse"), 61)]);
    let body = r#"{"model":"claude-sonnet-4-6","max_tokens":64000,"stream":true,"messages":[]}"#;
    let says = call(&world, &alice, MESSAGES, body).await;
    assert!(lowered_to(&says).is_some_and(|limit| limit < 64_000));
    assert_eq!(says.bytes().await.unwrap(), recorded("messages/cache.sse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_count_leaves_more_of_the_budget_for_the_answer() {
    let (world, provider) = nearly_spent(sqlite().await).await;
    let text = "word ".repeat(1800);
    let body = value!({ "model": "claude-sonnet-4-6", "max_tokens": 64_000, "messages": [{ "role": "user", "content": text }] });
    let mut limits = Vec::new();
    for (name, counts) in [("ann", CannedResponse::error(500, &[], "")), ("ben", count(1800))] {
        let person = world.person(name).await;
        provider.will_answer([counts, answer()]);
        let says = call(&world, &person, MESSAGES, &body.to_string()).await;
        limits.push(lowered_to(&says).unwrap());
    }
    // The input is bounded by 9,000 bytes or by about 2,000 tokens, each at a fifth of the price of an output token.
    assert!(limits[0] < 600 && limits[1] > 1800, "{limits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fits_or_did_not_ask_is_not_clamped() {
    let (world, provider) = nearly_spent(sqlite().await).await;
    let alice = world.person("alice").await;
    provider.will_answer([answer()]);
    let fits = r#"{"model":"claude-sonnet-4-6","max_tokens":300 ,"messages":[]}"#;
    let says = call(&world, &alice, MESSAGES, fits).await;
    assert_eq!((says.status().as_u16(), lowered_to(&says)), (200, None));
    assert_eq!(provider.requests().pop().unwrap().body, fits);
    let large = fits.replace("300", "64000");
    let refused = alice.post(&world, MESSAGES, &Value::Null).body(large.clone()).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), lowered_to(&refused)), (429, None));
    let said = json(refused).await["error"]["message"].to_string();
    assert!(said.contains("with the header x-berth-clamp: max-tokens it is lowered to what does."), "{said}");
    let asked =
        |what: &'static str| alice.post(&world, MESSAGES, &Value::Null).header(CLAMP.0, what).body(large.clone());
    let wrong = asked("everything").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    let said = json(wrong).await["error"]["message"].to_string();
    assert!(said.contains("x-berth-clamp: only max-tokens can be lowered"), "{said}");
    // An embedding has no answer that could be shorter.
    let embedding = value!({ "model": "text-embedding-3-large", "input": "word ".repeat(100_000) });
    let refused = call(&world, &alice, super::EMBEDDINGS, &embedding.to_string()).await;
    assert_eq!(refused.status(), 429);
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_refused_when_only_a_useless_answer_would_fit() {
    let (world, provider) = nearly_spent(sqlite().await).await;
    let alice = world.person("alice").await;
    provider.will_answer([count(20), answer()]);
    // After the input, the remaining 40 million nano-dollars buy a little more than 2,300 tokens of answer.
    let thinks = |budget: u64| {
        format!(
            r#"{{"model":"claude-sonnet-4-6","max_tokens":64000,"thinking":{{"type":"enabled","budget_tokens":{budget}}},"messages":[]}}"#
        )
    };
    let says = call(&world, &alice, MESSAGES, &thinks(2000)).await;
    assert!(lowered_to(&says).is_some_and(|limit| (2256..2400).contains(&limit)), "{:?}", says.headers());
    provider.requests();
    for body in [thinks(2200), r#"{"model":"claude-fable-5","max_tokens":900,"messages":[]}"#.replace("900", "100000")]
    {
        provider.will_answer([count(20), answer()]);
        let says = call(&world, &alice, MESSAGES, &body).await;
        let is_made = body.contains("fable");
        assert_eq!(says.status(), if is_made { 200 } else { 429 }, "{body}");
        drop(says.bytes().await);
    }
    // The remaining budget now buys a dozen tokens of the dearer model.
    let mut own = world.app.quota.admission.own_limits(alice.instance.account).await.unwrap();
    let spent = world.spend_at_rest(&alice).await.spent_nanodollars.0;
    own = AccountLimits { month_nanodollars: Some(Nanodollars(spent + 10_000_000)), ..own };
    world.app.quota.admission.set_limits(&Handle::parse("alice").unwrap(), own, "operator").await.unwrap();
    world.app.quota.admission.reload(alice.instance.account).await.unwrap();
    provider.requests();
    let dear = r#"{"model":"claude-fable-5","max_tokens":64000,"messages":[]}"#;
    let refused = call(&world, &alice, MESSAGES, dear).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-should-retry"]), (429, &"false".parse().unwrap()));
    assert_eq!(lowered_to(&refused), None);
    let error = json(refused).await;
    assert_eq!(error["error"]["details"]["error_code"], "enforced_spend_limit_reached");
    let said = error["error"]["message"].as_str().unwrap();
    assert!(said.contains("could cost up to $3.5") && said.ends_with("of any use would not fit either."), "{said}");
    assert!(provider.requests().is_empty(), "no count would help");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_budget_and_the_tokens_a_minute_shorten_an_answer_as_well() {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.day_nanodollars = Some(Nanodollars(LEFT));
        config.limits.tokens_a_minute = Some(3000);
        config.openai.url = format!("http://{address}");
    })
    .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body = |limit: u64| format!(r#"{{"model":"gpt-5","max_completion_tokens":{limit},"messages":[]}}"#);
    // An untouched minute admits any number of tokens; the daily budget does not.
    provider.will_answer([answer()]);
    let says = call(&world, &alice, COMPLETIONS, &body(100_000)).await;
    let limit = lowered_to(&says).unwrap();
    assert!((3900..4000).contains(&limit), "{limit}");
    drop(says.bytes().await);
    // Half of the minute's tokens are used, fifty a second come back, and nearly 600 are held for the next call's
    // bytes.
    provider
        .will_answer([CannedResponse::json(r#"{"usage":{"prompt_tokens":1000,"completion_tokens":500}}"#), answer()]);
    let says = call(&world, &bob, COMPLETIONS, &body(1000)).await;
    assert_eq!(lowered_to(&says), None);
    drop(says.bytes().await);
    let says = call(&world, &bob, COMPLETIONS, &body(100_000)).await;
    let limit = lowered_to(&says).unwrap();
    assert!((900..2000).contains(&limit), "{limit}");
    drop(says.bytes().await);
    world.spend_at_rest(&bob).await;
}

/// A provider that answers once `gate` has permits.
async fn gated(gate: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move || {
        let gate = gate.clone();
        async move {
            let _through = gate.acquire().await.unwrap();
            axum::Json(value!({ "usage": { "prompt_tokens": 1, "completion_tokens": 1 } }))
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_calls_at_once_use_the_budget_to_the_last_token_and_no_more() {
    for database in databases().await {
        let kind = database.kind;
        let gate = Arc::new(Semaphore::new(0));
        let address = gated(gate.clone()).await;
        let world = QuotaPlatform::on(database, |config| {
            config.limits.month_nanodollars = Nanodollars(7_777_777);
            config.openai.url = format!("http://{address}");
        })
        .await;
        let alice = world.person("alice").await;
        let body = r#"{"model":"berth-demo","max_completion_tokens":2000,"messages":[]}"#;
        let mut calls: FuturesUnordered<_> =
            (0..100).map(|_| tokio::spawn(asking(&world, &alice, COMPLETIONS, body).send())).collect();
        // Seven calls hold a little more than a thousandth of a dollar each, and the eighth the remainder.
        for _ in 0..92 {
            let refused = calls.next().await.unwrap().unwrap().unwrap();
            assert_eq!((refused.status().as_u16(), lowered_to(&refused)), (429, None), "{kind}");
        }
        let spend = world.app.quota.reports.budget(alice.instance.account).await.unwrap();
        assert!((0..500).contains(&spend.left_nanodollars.0), "{kind}: {spend:?}");
        gate.add_permits(100);
        let mut lowered = Vec::new();
        while let Some(made) = calls.next().await {
            let made = made.unwrap().unwrap();
            assert_eq!(made.status(), 200, "{kind}");
            lowered.extend(lowered_to(&made));
        }
        assert!(lowered.len() == 1 && (256..2000).contains(&lowered[0]), "{kind}: {lowered:?}");
        until_settled(&world, alice.instance.account).await;
        let receipts = world.app.quota.ledger.receipts(alice.instance.account, 100).await.unwrap();
        let held: i64 = receipts.iter().map(|receipt| receipt.held_nanodollars.0).sum();
        assert_eq!((receipts.len(), held), (8, spend.held_nanodollars.0), "{kind}");
        assert_eq!(held + spend.left_nanodollars.0, 7_777_777, "{kind}");
    }
}
