//! Providers from the operator's file: models behind a known wire format, and APIs with a price per call.

use berth::config::Providers;
use berth_ground::money::Nanodollars;
use serde_json::{Value, json as value};

use super::transcripts::recorded;
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, client, json};
use berth_testing::sqlite;
use berth_testing::stub_provider::{CannedResponse, StubProvider};

async fn with_providers() -> (QuotaPlatform, Person, StubProvider) {
    let (provider, address) = StubProvider::listen().await;
    let model = value!({ "input": "1.00", "output": "2.00", "max_input_tokens": 8000, "max_output_tokens": 1000 });
    let file = value!({
        "models": {
            "groq": { "speaks": "openai", "url": format!("http://{address}/openai"), "keys": ["groq-key"], "models": { "llama": model } },
            "bedrock": { "speaks": "anthropic", "url": format!("http://{address}"), "keys": ["bedrock-key"], "models": { "claude": model } },
        },
        "metered": {
            "weather": {
                "url": format!("http://{address}/api"),
                "key": { "header": "x-weather-key", "value": "weather-key" },
                "calls": [
                    { "method": "GET", "path": "/v1/forecast/*", "dollars": "0.002" },
                    { "method": "POST", "path": "/v1/maps", "dollars": "0.01", "dollars_per_million_bytes": "1000" },
                ],
            },
        },
    });
    let Ok(providers) = Providers::parse(&file.to_string()) else { panic!("the file is wrong") };
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.providers = providers;
        config.limits.month_nanodollars = Nanodollars(100_000_000_000_000);
    })
    .await;
    let alice = world.person("alice").await;
    (world, alice, provider)
}

async fn spent(world: &QuotaPlatform, person: &Person) -> i64 {
    world.spend_at_rest(person).await.spent_nanodollars.0
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_a_configured_provider_are_called_under_its_key_and_charged_at_its_prices() {
    let (world, alice, provider) = with_providers().await;
    provider.will_answer([CannedResponse::events(recorded("chat/tools.sse"), 0)]);
    let chat = value!({ "model": "llama", "messages": [], "stream": true });
    let says = alice.post(&world, "/groq/v1/chat/completions", &chat).send().await.unwrap();
    assert_eq!(says.status(), 200);
    assert_eq!(says.bytes().await.unwrap(), recorded("chat/tools.plain.sse"));
    let heard = provider.requests().remove(0);
    assert_eq!(
        (heard.uri.path(), &heard.headers["authorization"]),
        ("/openai/v1/chat/completions", &"Bearer groq-key".parse().unwrap())
    );
    // 82 input tokens and 17 output tokens.
    assert_eq!(spent(&world, &alice).await, 82 * 1000 + 17 * 2000);
    provider.will_answer([CannedResponse::json(r#"{"usage":{"input_tokens":10,"output_tokens":5}}"#)]);
    let message = value!({ "model": "claude", "max_tokens": 9, "messages": [] });
    let says = alice.post(&world, "/bedrock/v1/messages", &message).send().await.unwrap();
    assert_eq!(says.status(), 200);
    assert_eq!(provider.requests().remove(0).headers["x-api-key"], "bedrock-key");
    assert_eq!(spent(&world, &alice).await, 82 * 1000 + 17 * 2000 + 10 * 1000 + 5 * 2000);
    for (path, body) in [
        ("/groq/v1/messages", &message),
        ("/bedrock/v1/chat/completions", &chat),
        ("/nobody/v1/messages", &message),
        ("/weather/v1/messages", &message),
        ("/groq/v1/chat/completions", &value!({ "model": "gpt-5", "messages": [] })),
    ] {
        assert_eq!(alice.post(&world, path, body).send().await.unwrap().status(), 404, "{path}");
    }
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metered_api_answers_the_calls_that_have_a_price_and_no_others() {
    let (world, alice, provider) = with_providers().await;
    provider.will_answer([CannedResponse::json(r#"{"degrees":21}"#)]);
    let says = alice.get(&world, "/metered/weather/v1/forecast/berlin?days=3&units=c").send().await.unwrap();
    assert_eq!(says.status(), 200);
    assert_eq!(json(says).await["degrees"], 21);
    let heard = provider.requests().remove(0);
    assert_eq!(heard.uri, "/api/v1/forecast/berlin?days=3&units=c");
    assert_eq!(heard.headers["x-weather-key"], "weather-key");
    assert!(!heard.headers.values().any(|value| value.to_str().unwrap().contains(alice.token())));
    assert_eq!(spent(&world, &alice).await, 2_000_000);
    let model = world.app.quota.reports.models_this_month(alice.instance.account).await.unwrap().remove(0);
    assert_eq!((model.model.as_str(), model.input_tokens, model.output_tokens), ("GET /v1/forecast/*", 0, 0));
    // A cent for the call, and a tenth of a cent for each of the 2 bytes sent and the 14 received.
    let says = alice.post(&world, "/metered/weather/v1/maps", &value!({})).send().await.unwrap();
    assert_eq!(says.status(), 200);
    drop(says.bytes().await);
    assert_eq!(spent(&world, &alice).await, 2_000_000 + 10_000_000 + (2 + 14) * 1_000_000);
    provider.requests();
    for path in [
        "/metered/weather/v1/admin",
        "/metered/weather/v1/forecast/a/b",
        "/metered/nobody/v1/forecast/a",
        "/metered/groq/v1/models",
    ] {
        let refused = alice.get(&world, path).send().await.unwrap();
        assert_eq!(refused.status(), 404, "{path}");
        assert!(json(refused).await["error"]["message"].is_string());
    }
    let url = format!("http://{}/metered/weather/v1/forecast/berlin", world.proxy);
    assert_eq!(client(None).get(&url).send().await.unwrap().status(), 401);
    assert_eq!(
        client(Some(alice.instance.address())).delete(url).bearer_auth(alice.token()).send().await.unwrap().status(),
        404
    );
    assert!(provider.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_of_a_metered_api_costs_nothing() {
    let (world, alice, provider) = with_providers().await;
    let sorry: Value = value!({ "error": "no such city" });
    provider.will_answer([CannedResponse::error(404, &[], sorry.to_string())]);
    let says = alice.get(&world, "/metered/weather/v1/forecast/atlantis").send().await.unwrap();
    assert_eq!((says.status().as_u16(), json(says).await), (404, sorry));
    assert_eq!(spent(&world, &alice).await, 0);
}
