//! Recorded responses of each API, in chunks of any size: the client receives the bytes that the provider sent.

use serde_json::{Value, json as value};

use super::surface::scripted_world;
use super::{COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, fingerprint};
use berth_testing::person::Person;
use berth_testing::quota_platform::QuotaPlatform;
use berth_testing::stub_provider::CannedResponse;

pub fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/crates/providers/tests/transcripts/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn body(path: &str, more: &Value) -> Value {
    let mut body = match path {
        MESSAGES => value!({ "model": "claude-opus-5", "max_tokens": 9000, "messages": [] }),
        RESPONSES => value!({ "model": "gpt-6.1-sol", "max_output_tokens": 9000, "input": "hi" }),
        EMBEDDINGS => value!({ "model": "text-embedding-3-small", "input": "hi" }),
        _ => value!({ "model": "gpt-5.4", "max_completion_tokens": 9000, "messages": [] }),
    };
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The bytes that the client received, and the amount that the call was charged.
async fn received(world: &QuotaPlatform, person: &Person, path: &str, body: &Value) -> (Vec<u8>, i64) {
    let spent = async || world.spend_at_rest(person).await.spent_nanodollars.0;
    let before = spent().await;
    let answer = person.post(world, path, body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
    let bytes = answer.bytes().await.unwrap().to_vec();
    (bytes, spent().await - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_byte_for_byte_and_costs_the_same_in_chunks_of_any_size() {
    let (world, alice, provider) = scripted_world().await;
    let asking = value!({ "stream": true, "stream_options": { "include_usage": true } });
    let plain = value!({ "stream": true });
    let mut streams = Vec::new();
    for name in ["cache", "tools", "thinking", "web_search", "odd", "error"] {
        streams.push((MESSAGES, format!("messages/{name}.sse"), format!("messages/{name}.sse"), &plain));
    }
    for name in ["cache", "tools", "reasoning", "odd", "error"] {
        let (full, hidden) = (format!("chat/{name}.sse"), format!("chat/{name}.plain.sse"));
        streams.push((COMPLETIONS, full.clone(), full.clone(), &asking));
        streams.push((COMPLETIONS, full, hidden, &plain));
    }
    for name in ["text", "tools", "web_search", "incomplete", "odd", "failed", "error"] {
        streams.push((RESPONSES, format!("responses/{name}.sse"), format!("responses/{name}.sse"), &plain));
    }
    for (path, sent, expected, more) in streams {
        let mut charged = Vec::new();
        // In one chunk, in chunks that split every frame, and byte by byte.
        for pieces in [0, 61, 1] {
            provider.will_answer([CannedResponse::events(recorded(&sent), pieces)]);
            let (bytes, amount) = received(&world, &alice, path, &body(path, more)).await;
            let said = String::from_utf8_lossy(&bytes);
            assert_eq!(fingerprint(&bytes), fingerprint(&recorded(&expected)), "{sent} in pieces of {pieces}: {said}");
            charged.push(amount);
        }
        assert!(charged[0] > 0 && charged.iter().all(|amount| *amount == charged[0]), "{sent}: {charged:?}");
        for heard in provider.requests().iter().filter(|_| path == COMPLETIONS) {
            let asked: Value = serde_json::from_slice(&heard.body).unwrap();
            assert_eq!(asked["stream_options"]["include_usage"], true);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_response_arrives_byte_for_byte() {
    let (world, alice, provider) = scripted_world().await;
    for (path, name) in [
        (MESSAGES, "messages/answer.json"),
        (COMPLETIONS, "chat/answer.json"),
        (RESPONSES, "responses/answer.json"),
        (EMBEDDINGS, "embeddings/answer.json"),
    ] {
        for pieces in [0, 61, 1] {
            provider.will_answer([CannedResponse { pieces, ..CannedResponse::json(recorded(name)) }]);
            let (bytes, amount) = received(&world, &alice, path, &body(path, &value!({}))).await;
            assert_eq!(fingerprint(&bytes), fingerprint(&recorded(name)), "{name} in pieces of {pieces}");
            assert!(amount > 0, "{name}");
        }
    }
}
