//! The served surface of each API: paths, fields, headers in both directions, and prices.

use berth_ground::money::Nanodollars;
use serde_json::{Value, json as value};

use super::{COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, json};
use berth_testing::sqlite;
use berth_testing::stub_provider::{CannedResponse, StubProvider};

/// A platform with one stub provider for both wire formats.
pub async fn scripted_world() -> (QuotaPlatform, Person, StubProvider) {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.month_nanodollars = Nanodollars(1_000_000_000_000);
        config.anthropic.url = format!("http://{address}");
        config.openai.url = format!("http://{address}");
    })
    .await;
    let alice = world.person("alice").await;
    (world, alice, provider)
}

/// The smallest valid body for `path`, with the members of `more`.
fn body(path: &str, model: &str, more: &Value) -> Value {
    let mut body = match path {
        MESSAGES => value!({ "model": model, "max_tokens": 100, "messages": [] }),
        RESPONSES => value!({ "model": model, "input": "hi", "max_output_tokens": 100 }),
        EMBEDDINGS => value!({ "model": model, "input": "hi" }),
        _ => value!({ "model": model, "max_completion_tokens": 100, "messages": [] }),
    };
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_charged_by_the_tier_and_tools_that_the_response_reports() {
    let (world, _, provider) = scripted_world().await;
    let million = |tier: &str| {
        format!(
            r#"{{"service_tier":"{tier}","usage":{{"prompt_tokens":100000,"completion_tokens":1000000,"input_tokens":100000,"output_tokens":1000000}}}}"#
        )
    };
    let claude = |more: &str| format!(r#"{{"usage":{{"input_tokens":100000,"output_tokens":1000000{more}}}}}"#);
    let searched =
        r#"{"tool_usage":{"web_search":{"num_requests":3}},"usage":{"input_tokens":0,"output_tokens":0}}"#.to_owned();
    let [sol, opus] = ["gpt-6.1-sol", "claude-opus-5"];
    let search = value!({ "tools": [{ "type": "web_search_20250305", "name": "web_search", "max_uses": 1 }] });
    let search_here = value!({ "tools": [{ "type": "web_search" }], "max_tool_calls": 3 });
    // In cents: a million tokens of output of gpt-6.1-sol cost ten dollars, 100,000 of input twenty cents.
    for (number, (path, model, more, answer, cents)) in [
        (COMPLETIONS, sol, value!({}), million("default"), 1020),
        (COMPLETIONS, sol, value!({ "service_tier": "flex" }), million("flex"), 510),
        (COMPLETIONS, sol, value!({ "service_tier": "priority" }), million("priority"), 2040),
        (COMPLETIONS, sol, value!({ "service_tier": "priority" }), million("default"), 1020),
        (RESPONSES, sol, value!({ "service_tier": "ultrafast" }), million("ultrafast"), 6120),
        (RESPONSES, sol, search_here, searched, 3),
        (EMBEDDINGS, "text-embedding-3-large", value!({}), million("default"), 1),
        (MESSAGES, opus, value!({}), claude(""), 2550),
        (MESSAGES, opus, value!({ "speed": "fast" }), claude(r#","speed":"fast""#), 5100),
        (MESSAGES, opus, value!({}), claude(r#","inference_geo":"us""#), 2805),
        (MESSAGES, opus, search, claude(r#","server_tool_use":{"web_search_requests":1}"#), 2551),
    ]
    .into_iter()
    .enumerate()
    {
        let names = ["ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jim", "kay"];
        let person = world.person(names[number]).await;
        provider.will_answer([CannedResponse::json(answer)]);
        let answer = person.post(&world, path, &body(path, model, &more)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path} {more}: {}", answer.text().await.unwrap());
        drop(answer.bytes().await);
        let (amount, basis, _) = world.receipt(&person).await;
        // Rounded up to the cent, because embeddings of 100,000 tokens cost 1.3.
        assert_eq!((amount / 10_000_000, basis.as_str()), (cents, "provider"), "{path} {more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_without_a_price_is_refused_by_name() {
    let (world, alice, provider) = scripted_world().await;
    let search = value!([{ "type": "web_search_20250305", "name": "web_search", "max_uses": 1 }]);
    for (path, model, more, field) in [
        (MESSAGES, "claude-sonnet-5", value!({ "speed": "fast" }), "speed: claude-sonnet-5 has no known price"),
        (MESSAGES, "claude-haiku-4-5", value!({ "tools": search }), "tools: what a search"),
        (
            MESSAGES,
            "claude-opus-5",
            value!({ "tools": [{ "type": "web_search_20250305" }] }),
            "tools: web_search needs",
        ),
        (COMPLETIONS, "gpt-4.1", value!({ "service_tier": "ultrafast" }), "service_tier: gpt-4.1 has no known price"),
        (COMPLETIONS, "gpt-5", value!({ "web_search_options": {} }), "web_search_options: "),
        (RESPONSES, "gpt-5", value!({ "background": true }), "background: "),
        (RESPONSES, "gpt-5", value!({ "tools": [{ "type": "web_search" }] }), "tools: web_search needs max_tool_calls"),
        (RESPONSES, "gpt-5", value!({ "tools": [{ "type": "file_search" }] }), "tools: "),
        (EMBEDDINGS, "text-embedding-3-small", value!({ "input": { "image": "x" } }), "input: "),
    ] {
        let refused = alice.post(&world, path, &body(path, model, &more)).send().await.unwrap();
        assert_eq!(refused.status(), 400, "{path} {more}");
        let error = json(refused).await;
        let said = error["error"]["message"].as_str().unwrap();
        assert!(said.starts_with(field), "{path} {more}: {said}");
    }
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_paths_are_served() {
    let (world, alice, provider) = scripted_world().await;
    provider.will_answer([CannedResponse::json("{}")]);
    for (path, status) in [
        ("/openai/v1/responses/input_tokens", 200),
        ("/openai/v1/messages/count_tokens", 404),
        ("/anthropic/v1/responses/input_tokens", 404),
        ("/openai/v1/responses/resp_1/cancel", 404),
        ("/openai/v1/responses/compact", 404),
        ("/openai/v1/responses/", 404),
        ("/openai/v1/batches", 404),
        ("/openai/v1/images/generations", 404),
        ("/openai/v1/realtime/sessions", 404),
        ("/anthropic/v1/messages/batches", 404),
        ("/anthropic/v1/files", 404),
    ] {
        let answer = alice.post(&world, path, &value!({})).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let answer = alice.get(&world, "/openai/v1/responses/resp_1").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let heard = provider.requests();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].uri.path(), "/v1/responses/input_tokens");
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_contract_of_claude_code_is_kept() {
    let (world, alice, provider) = scripted_world().await;
    for method in ["HEAD", "GET"] {
        let probe = alice.get(&world, "/anthropic/api/hello").build().unwrap();
        let probe = berth_testing::quota_platform::client(Some(alice.instance.address()))
            .request(method.parse().unwrap(), probe.url().clone());
        assert_eq!(probe.send().await.unwrap().status(), 200);
    }
    assert!(provider.requests().is_empty(), "it is answered here");
    let sent = r#"{ "model":"claude-sonnet-5", "max_tokens":1,"system":[{"type":"text","text":"attribution"},{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":"h\u0069"}], "a_field_of_tomorrow":{"deep":[1.50,null]} }"#;
    provider.will_answer([CannedResponse::json(r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#)]);
    let headers = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a-2026-01-01,b-2026-02-02"),
        ("anthropic-of-tomorrow", "yes"),
        ("x-claude-code-session-id", "s-1"),
        ("x-stainless-lang", "js"),
        ("user-agent", "claude-cli/9"),
    ];
    let mut call = alice.post(&world, "/anthropic/v1/messages?beta=true", &value!({})).body(sent);
    for (name, value) in headers {
        call = call.header(name, value);
    }
    assert_eq!(call.send().await.unwrap().status(), 200);
    let heard = provider.requests().remove(0);
    assert_eq!((heard.method.as_str(), heard.uri), ("POST", "/v1/messages?beta=true".parse().unwrap()));
    assert_eq!(heard.body, sent.as_bytes());
    for (name, value) in headers {
        assert_eq!(heard.headers[name], value);
    }
    assert!(!heard.headers.values().any(|value| value.to_str().unwrap().contains(alice.token())));
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_errors_pass_unchanged_without_headers_of_the_platforms_account() {
    let (world, alice, provider) = scripted_world().await;
    let of_the_key = [
        ("anthropic-ratelimit-requests-remaining", "7"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-25T00:00:00Z"),
        ("anthropic-organization-id", "org-1"),
        ("x-ratelimit-limit-tokens", "9"),
        ("openai-organization", "org-2"),
        ("openai-project", "proj-1"),
        ("set-cookie", "a=b"),
    ];
    let of_the_call = [
        ("anthropic-ratelimit-unified-status", "allowed"),
        ("request-id", "req_1"),
        ("x-request-id", "req_2"),
        ("retry-after", "13"),
        ("x-should-retry", "true"),
    ];
    let error = "{ \"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overlo\\u0061ded\"}}\n";
    for path in [MESSAGES, COMPLETIONS, RESPONSES, EMBEDDINGS] {
        for status in [400, 404, 413, 500, 529] {
            provider.will_answer([CannedResponse::error(status, &[&of_the_key[..], &of_the_call[..]].concat(), error)]);
            let model = if path == MESSAGES { "claude-sonnet-5" } else { "gpt-5" };
            let answer = alice.post(&world, path, &body(path, model, &value!({}))).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            for (name, value) in of_the_call {
                assert_eq!(answer.headers()[name], value, "{path}");
            }
            for (name, _) in of_the_key {
                assert!(!answer.headers().contains_key(name), "{path}: {name}");
            }
            assert_eq!(answer.bytes().await.unwrap(), error.as_bytes(), "{path}");
        }
    }
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
}
