//! The quota proxy from outside: unchanged bytes, exact charges however a call ends, and refusals that SDKs understand.

mod clamp;
mod configured_providers;
mod outages;
mod sdk;
mod surface;
mod token_count;
pub mod transcripts;

use std::sync::Arc;
use std::time::Duration;

use berth::instances::Cause;
use berth_ground::money::Nanodollars;
use futures_util::StreamExt as _;
use serde_json::{Value, json as value};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, client, json};
use berth_testing::wait::{eventually, eventually_some};
use berth_testing::{databases, sqlite};

const MESSAGES: &str = "/anthropic/v1/messages";
const COMPLETIONS: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";
const EMBEDDINGS: &str = "/openai/v1/embeddings";

fn message(text: &str, stream: bool) -> Value {
    value!({ "model": "berth-demo", "max_tokens": 2000, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

fn completion(text: &str, more: &Value) -> Value {
    let mut body = value!({ "model": "berth-demo", "max_completion_tokens": 2000, "messages": [{ "role": "user", "content": text }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn response(text: &str, stream: bool) -> Value {
    value!({ "model": "berth-demo", "max_output_tokens": 2000, "stream": stream, "input": text })
}

fn fingerprint(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// The provider's response without the proxy.
async fn direct(world: &QuotaPlatform, path: &str, body: &Value) -> Vec<u8> {
    let (_, path) = path[1..].split_once('/').unwrap();
    let request = client(None).post(format!("http://{}/{path}", world.upstream)).body(body.to_string());
    request.send().await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_arrives_byte_for_byte() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    for (path, body) in [
        (MESSAGES, message("hello", false)),
        (MESSAGES, message("hello x-demo-tokens=300", true)),
        (COMPLETIONS, completion("hello", &value!({}))),
        (COMPLETIONS, completion("hello", &value!({ "stream": true, "n": 3 }))),
        (COMPLETIONS, completion("hello", &value!({ "stream": true, "stream_options": { "include_usage": true } }))),
        (COMPLETIONS, completion("hello", &value!({ "stream": true, "stream_options": { "include_usage": false } }))),
        (MESSAGES, message("hello x-demo-fault=overloaded", true)),
        (MESSAGES, message("hello x-demo-fault=malformed", true)),
        (MESSAGES, message("hello x-demo-fault=status-529", true)),
        (COMPLETIONS, completion("hello x-demo-fault=status-400", &value!({}))),
        (COMPLETIONS, completion("hello x-demo-fault=overloaded", &value!({ "stream": true }))),
        (RESPONSES, response("hello", false)),
        (RESPONSES, response("hello x-demo-tokens=300", true)),
        (RESPONSES, response("hello x-demo-fault=overloaded", true)),
        (RESPONSES, response("hello x-demo-fault=status-500", true)),
        (EMBEDDINGS, value!({ "model": "berth-demo-embedding", "input": ["a", "b"], "encoding_format": "base64" })),
    ] {
        let expected = direct(&world, path, &body).await;
        let seen = alice.post(&world, path, &body).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(fingerprint(&seen), fingerprint(&expected), "{body}: {}", String::from_utf8_lossy(&seen));
    }
    world.spend_at_rest(&alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_add_up_to_the_usage_that_the_provider_served() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    for (path, body) in [
        (MESSAGES, message("one", false)),
        (MESSAGES, message("two", true)),
        (COMPLETIONS, completion("three", &value!({}))),
        (COMPLETIONS, completion("four", &value!({ "stream": true }))),
        (RESPONSES, response("five", false)),
        (RESPONSES, response("six", true)),
        (MESSAGES, message("refused x-demo-fault=status-500", false)),
    ] {
        alice.post(&world, path, &body).send().await.unwrap().bytes().await.unwrap();
    }
    let spend = world.spend_at_rest(&alice).await;
    let models = world.app.quota.reports.models_this_month(alice.instance.account).await.unwrap();
    let served = world.served().await;
    let sum = |of: fn(&berth::quota::reports::ModelSpend) -> i64| models.iter().map(of).sum::<i64>();
    assert_eq!(sum(|model| model.input_tokens), served["input_tokens"].as_i64().unwrap());
    assert_eq!(sum(|model| model.output_tokens), served["output_tokens"].as_i64().unwrap());
    assert_eq!(sum(|model| model.amount_nanodollars.0), spend.spent_nanodollars.0);
    let tokens = |name: &str| served[name].as_i64().unwrap();
    assert_eq!(spend.spent_nanodollars.0, tokens("input_tokens") * 100 + tokens("output_tokens") * 500);
    let allowance = json(alice.get(&world, "/budget").send().await.unwrap()).await;
    assert_eq!(allowance["left_nanodollars"], spend.allowance_nanodollars.0 - spend.spent_nanodollars.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_mid_stream_is_charged_exactly() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let exact = async || {
        let served = world.served().await;
        served["input_tokens"].as_i64().unwrap() * 100 + served["output_tokens"].as_i64().unwrap() * 500
    };
    for (name, path, body, reads) in [
        ("alice", MESSAGES, message("x-demo-tokens=100 x-demo-pace-ms=5", true), 8),
        ("bob", COMPLETIONS, completion("x-demo-tokens=100 x-demo-pace-ms=5", &value!({ "stream": true })), 8),
        ("carol", MESSAGES, message("x-demo-tokens=100 x-demo-first-byte-ms=400", true), 0),
        ("dave", RESPONSES, response("x-demo-tokens=100 x-demo-pace-ms=5", true), 8),
    ] {
        let person = world.person(name).await;
        let before = exact().await;
        let call = person.post(&world, path, &body).send();
        if reads == 0 {
            leave_when_held(&world, &person, call).await;
        } else {
            let mut stream = call.await.unwrap().bytes_stream();
            for _ in 0..reads {
                stream.next().await.unwrap().unwrap();
            }
        }
        until_settled(&world, person.instance.account).await;
        let (amount, basis, outcome) = world.receipt(&person).await;
        assert_eq!((basis.as_str(), outcome.as_str()), ("provider", "client_gone"), "{path}");
        assert_eq!(amount, exact().await - before, "{path}");
    }
}

/// Reasoning is charged but not shown, so a disconnect before the figures must not make it free.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_without_figures_in_time_is_charged_all_output_that_may_be_hidden() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let short = world.proxy_draining(10, Duration::from_millis(50)).await;
    let none = world.proxy_draining(0, Duration::from_secs(30)).await;
    for (name, path, proxy) in [
        ("alice", MESSAGES, short),
        ("bob", COMPLETIONS, short),
        ("carol", MESSAGES, none),
        ("dave", COMPLETIONS, none),
    ] {
        let person = world.person(name).await;
        let text = "x-demo-tokens=1000 x-demo-pace-ms=20";
        let body = if path == MESSAGES { message(text, true) } else { completion(text, &value!({ "stream": true })) };
        let url = format!("http://{proxy}{path}");
        let call = client(Some(person.instance.address())).post(url).bearer_auth(person.token()).body(body.to_string());
        let mut stream = call.send().await.unwrap().bytes_stream();
        for _ in 0..8 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        until_settled(&world, person.instance.account).await;
        let (amount, basis, outcome) = world.receipt(&person).await;
        assert_eq!((basis.as_str(), outcome.as_str()), ("held", "client_gone"), "{name}");
        // The output limit of the calls is 2,000 tokens.
        assert!((2000 * 500..2000 * 500 + 100_000).contains(&amount), "{name}: {amount}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_without_figures_in_time_is_charged_the_seen_output_where_none_is_hidden() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let proxy = world.proxy_draining(10, Duration::from_millis(50)).await;
    let mut unthinking = message("x-demo-tokens=1000 x-demo-pace-ms=20", true);
    unthinking["thinking"] = value!({ "type": "disabled" });
    let off = value!({ "stream": true, "reasoning_effort": "none" });
    for (name, path, body) in [
        ("alice", MESSAGES, unthinking),
        ("bob", COMPLETIONS, completion("x-demo-tokens=1000 x-demo-pace-ms=20", &off)),
    ] {
        let person = world.person(name).await;
        let url = format!("http://{proxy}{path}");
        let call = client(Some(person.instance.address())).post(url).bearer_auth(person.token()).body(body.to_string());
        let mut stream = call.send().await.unwrap().bytes_stream();
        for _ in 0..8 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        until_settled(&world, person.instance.account).await;
        let (amount, basis, outcome) = world.receipt(&person).await;
        assert_eq!((basis.as_str(), outcome.as_str()), ("observed", "client_gone"), "{path}");
        // At least the input and one token, and far below the 1,000 tokens of the whole answer.
        assert!(amount > 2000 && amount < 400_000, "{path}: {amount}");
        until_the_provider_is_silent(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_on_a_whole_response_is_charged_exactly() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let call = alice.post(&world, MESSAGES, &message("x-demo-first-byte-ms=300", false)).send();
    leave_when_held(&world, &alice, call).await;
    until_settled(&world, alice.instance.account).await;
    let (amount, basis, _) = world.receipt(&alice).await;
    let served = world.served().await;
    let exact = served["input_tokens"].as_i64().unwrap() * 100 + served["output_tokens"].as_i64().unwrap() * 500;
    assert_eq!((amount, basis.as_str()), (exact, "provider"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_charged_its_seen_output() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    for (name, fault) in [("alice", "break"), ("bob", "overloaded")] {
        let person = world.person(name).await;
        let body = message(&format!("x-demo-tokens=100 x-demo-fault={fault}"), true);
        let answer = person.post(&world, MESSAGES, &body).send().await.unwrap();
        assert_eq!(answer.bytes().await.is_err(), fault == "break");
        until_settled(&world, person.instance.account).await;
        let (amount, basis, outcome) = world.receipt(&person).await;
        assert_eq!((basis.as_str(), outcome.as_str()), ("observed", "upstream_broke"), "{fault}");
        // About fifty words of about six letters, at two letters a token.
        assert!(amount > 50 * 500 && amount < 300 * 500, "{fault}: {amount}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_provider_refuses_or_never_receives_costs_nothing() {
    let world = QuotaPlatform::on(sqlite().await, |config| config.openai.url = "http://127.0.0.1:9".into()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let answer = alice.post(&world, MESSAGES, &message("x-demo-fault=status-529", true)).send().await.unwrap();
    assert_eq!(answer.status(), 529);
    assert_eq!(world.receipt(&alice).await, (0, "provider".into(), "refused".into()));
    let answer = bob.post(&world, COMPLETIONS, &completion("hi", &value!({}))).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(json(answer).await["error"]["type"], "server_error");
    assert_eq!(world.receipt(&bob).await, (0, "provider".into(), "upstream_broke".into()));
}

/// Forty concurrent calls of every kind and ending, within an allowance that is too small for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_allowance_is_kept_and_no_hold_remains_however_calls_end() {
    const ENDINGS: [&str; 5] =
        ["", "x-demo-fault=break", "x-demo-fault=overloaded", "x-demo-fault=status-529", "hang up"];
    for database in databases().await {
        let world = Arc::new(
            QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(12_000_000)).await,
        );
        let alice = Arc::new(world.person("alice").await);
        let calls = (0..40).map(|number: usize| {
            let (world, alice) = (world.clone(), alice.clone());
            tokio::spawn(async move {
                let ending = ENDINGS[number % 5];
                let text = format!("call {number} x-demo-tokens=400 x-demo-pace-ms=1 {ending}");
                let (path, body) = if number.is_multiple_of(2) {
                    (MESSAGES, message(&text, !number.is_multiple_of(3)))
                } else {
                    (COMPLETIONS, completion(&text, &value!({ "stream": !number.is_multiple_of(3) })))
                };
                let Ok(answer) = alice.post(&world, path, &body).send().await else { return };
                let mut stream = answer.bytes_stream();
                for _ in 0..if ending == "hang up" { 20 } else { usize::MAX } {
                    let Some(Ok(_)) = stream.next().await else { break };
                }
            })
        });
        futures_util::future::join_all(calls).await;
        until_settled(&world, alice.instance.account).await;
        let spend = world.spend_at_rest(&alice).await;
        assert!(spend.spent_nanodollars.0 <= spend.allowance_nanodollars.0, "{}: {spend:?}", world.kind());
        let served = world.served().await;
        assert!(served["calls"].as_i64().unwrap() > 2, "{}: hardly anything was admitted: {served}", world.kind());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_only_from_its_own_instance() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let body = message("hi", false);
    let url = format!("http://{}{MESSAGES}", world.proxy);
    let from = |address, token: &str| client(address).post(&url).bearer_auth(token).body(body.to_string()).send();
    let home = Some(alice.instance.address());
    assert_eq!(from(home, alice.token()).await.unwrap().status(), 200);
    for (address, token) in [(Some(bob.instance.address()), alice.token()), (None, alice.token()), (home, "wrong")] {
        let refused = from(address, token).await.unwrap();
        assert_eq!(refused.status(), 401);
        let body = json(refused).await;
        assert_eq!(body["error"]["type"], "authentication_error");
    }
    assert_eq!(world.served().await["calls"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_providers_wire_format() {
    let world = QuotaPlatform::on(sqlite().await, |config| config.limits.month_nanodollars = Nanodollars(1000)).await;
    let alice = world.person("alice").await;
    let refused = alice.post(&world, MESSAGES, &message("hi", true)).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-should-retry"]), (429, &"false".parse().unwrap()));
    assert!(!refused.headers().contains_key("retry-after"));
    let body = json(refused).await;
    assert_eq!(body["error"]["type"], "rate_limit_error");
    assert_eq!(body["error"]["details"]["error_code"], "enforced_spend_limit_reached");
    let said = body["error"]["message"].as_str().unwrap();
    assert!(said.contains("$0.000001 is left") && said.contains("max_tokens"), "{said}");
    let refused = alice.post(&world, COMPLETIONS, &completion("hi", &value!({}))).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-should-retry"]), (429, &"false".parse().unwrap()));
    let body = json(refused).await;
    assert_eq!(body["error"]["type"], "insufficient_quota");
    assert_eq!(body["error"]["code"], "project_spend_limit_exceeded");
    let free = value!({ "model": "berth-demo", "messages": [] });
    for (path, body, status) in [
        ("/anthropic/v1/messages/count_tokens", &free, 200),
        ("/anthropic/v1/messages/batches", &free, 404),
        ("/openai/v1/responses/resp_1", &free, 404),
        ("/openai/v1/files", &free, 404),
        (MESSAGES, &value!({ "model": "berth-demo" }), 400),
        (MESSAGES, &value!({ "model": "claude-of-tomorrow", "max_tokens": 1, "messages": [] }), 404),
        (COMPLETIONS, &completion("hi", &value!({ "service_tier": "ultrafast" })), 400),
    ] {
        assert_eq!(alice.post(&world, path, body).send().await.unwrap().status(), status, "{path} {body}");
    }
    let large = alice.post(&world, MESSAGES, &free).body(vec![b' '; 33 * 1024 * 1024]).send().await;
    assert!(large.is_err() || large.unwrap().status() == 413);
    assert_eq!(world.served().await["calls"], 0);
}

/// The platform's key gives access to every path of the provider, such as other tenants' stored prompts.
#[tokio::test(flavor = "multi_thread")]
async fn path_traversal_in_a_models_name_is_refused() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    for (provider, id) in [
        ("openai", r"..\..\demo\ledger"),
        ("openai", r"..\files"),
        ("anthropic", "..%5c..%5cdemo%5cledger"),
        ("anthropic", "%2e%2e"),
    ] {
        let mut stream = sent_by_hand(&world, &alice, &format!("GET /{provider}/v1/models/{id}"), "").await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("is not served here"), "{id}: {answer}");
    }
}

/// Sends a request head unchanged; an HTTP client would normalize the path first.
async fn sent_by_hand(world: &QuotaPlatform, person: &Person, line: &str, more: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((person.instance.address(), 0).into()).unwrap();
    let mut stream = socket.connect(world.proxy).await.unwrap();
    let token = person.token();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_has_a_limit_of_concurrent_requests_free_ones_too() {
    let world = QuotaPlatform::on(sqlite().await, |config| config.limits.calls_at_once = 1).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let count = "POST /anthropic/v1/messages/count_tokens";
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(sent_by_hand(&world, &alice, count, "content-length: 100\r\n").await);
    }
    let body = value!({ "model": "berth-demo", "messages": [] });
    let ask =
        async |person: &Person| person.post(&world, "/anthropic/v1/messages/count_tokens", &body).send().await.unwrap();
    let refusal = async || Some(ask(&alice).await).filter(|answer| answer.status() == 429);
    let answer = eventually_some("the limit refuses a request", refusal).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(json(answer).await["error"]["type"], "rate_limit_error");
    assert_eq!(ask(&bob).await.status(), 200);
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_or_leaving_instance_makes_no_calls_and_its_streams_end() {
    for why in ["suspended", "scheduled for deletion"] {
        let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
        let alice = world.person("alice").await;
        let body = message("x-demo-tokens=300 x-demo-pace-ms=10", true);
        let mut stream = alice.post(&world, MESSAGES, &body).send().await.unwrap().bytes_stream();
        stream.next().await.unwrap().unwrap();
        let (tx, instances) = (world.app.db.begin().await.unwrap(), &world.app.instances);
        let id = match why {
            "suspended" => instances.suspend_in(&tx, alice.instance.account).await,
            _ => instances.leave_in(&tx, alice.instance.account, Cause::OwnerAsked).await,
        };
        tx.commit().await.unwrap();
        instances.load_committed(id.unwrap().unwrap()).await.unwrap();
        let mut seen = 0;
        let ended = loop {
            match stream.next().await {
                Some(Ok(_)) => seen += 1,
                other => break other,
            }
        };
        assert!(matches!(ended, Some(Err(_))) && seen < 200, "it was not cut off: {seen}");
        for (path, kind) in [(MESSAGES, "permission_error"), (COMPLETIONS, "invalid_request_error")] {
            let refused = alice.post(&world, path, &message("hi", false)).send().await.unwrap();
            assert_eq!(refused.status(), 403);
            let error = json(refused).await;
            assert_eq!(error["error"]["type"], kind);
            assert!(error["error"]["message"].as_str().unwrap().contains(why), "{error}");
        }
        until_settled(&world, alice.instance.account).await;
    }
}

/// Makes a call, and disconnects once it is admitted.
async fn leave_when_held(
    world: &QuotaPlatform,
    person: &Person,
    call: impl Future<Output = reqwest::Result<reqwest::Response>> + Send + 'static,
) {
    let call = tokio::spawn(call);
    let is_admitted =
        async || world.app.quota.reports.budget(person.instance.account).await.unwrap().held_nanodollars.0 > 0;
    eventually("the call is admitted", is_admitted).await;
    call.abort();
}

/// Waits until no money is held, which means that the proxy has noticed the disconnect.
async fn until_settled(world: &QuotaPlatform, account: berth::db::AccountId) {
    let is_settled = async || world.app.quota.reports.budget(account).await.unwrap().held_nanodollars.0 == 0;
    eventually("no money is held", is_settled).await;
    assert_eq!(world.app.quota.disagreements().await.unwrap(), Vec::<String>::new());
}

/// Waits until the demo model has no open stream. At 20 ms a token, a whole answer would take 20 seconds.
async fn until_the_provider_is_silent(world: &QuotaPlatform) {
    let without_stream = async || Some(world.served().await).filter(|served| served["streams"] == 0);
    let served = eventually_some("the provider has no open stream", without_stream).await;
    assert!(served["output_tokens"].as_i64().unwrap() < 1000, "the answer was read to its end: {served}");
}
