//! The wire format of Anthropic's Messages API, as the demo model answers it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::script::AnswerScript;
use super::wire_shape::WireShape;

pub const SHAPE: WireShape = WireShape {
    whole,
    frames,
    error,
    overloaded: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
};

fn stop_reason(script: &AnswerScript) -> &'static str {
    if script.is_cut { "max_tokens" } else { "end_turn" }
}

fn usage(script: &AnswerScript, output_tokens: u64) -> Value {
    json!({
        "input_tokens": script.input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": output_tokens, "service_tier": "standard",
    })
}

fn whole(script: &AnswerScript) -> Value {
    json!({
        "id": format!("msg_demo_{}", script.id), "type": "message", "role": "assistant", "model": script.model,
        "content": [{ "type": "text", "text": script.text() }],
        "stop_reason": stop_reason(script), "stop_sequence": null,
        "usage": usage(script, script.output_tokens()),
    })
}

fn frames(script: &AnswerScript) -> Vec<(String, u64)> {
    // As in the API, message_start counts the first output token, and message_delta the final number.
    let start = json!({ "type": "message_start", "message": {
        "id": format!("msg_demo_{}", script.id), "type": "message", "role": "assistant", "model": script.model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(script, 1),
    }});
    let block = json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } });
    let end = json!({
        "type": "message_delta", "delta": { "stop_reason": stop_reason(script), "stop_sequence": null },
        "usage": { "output_tokens": script.output_tokens() },
    });
    let word = |word: &String| {
        let delta = json!({ "type": "text_delta", "text": word });
        (frame(&json!({ "type": "content_block_delta", "index": 0, "delta": delta })), 1)
    };
    // Like the API, sends pings, which clients have to ignore.
    let mut frames = vec![(frame(&start), 0), (frame(&block), 0), (frame(&json!({ "type": "ping" })), 0)];
    frames.extend(script.words.iter().map(word));
    frames.push((frame(&json!({ "type": "content_block_stop", "index": 0 })), 0));
    frames.push((frame(&end), 0));
    frames.push((frame(&json!({ "type": "message_stop" })), 0));
    frames
}

fn frame(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn error(status: StatusCode) -> Value {
    // 529 is Anthropic's own status for an overload.
    let kind = match status.as_u16() {
        400 => "invalid_request_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let message = format!("The demo model answers {status} here.");
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_demo" })
}

pub fn models() -> Value {
    json!({
        "data": [{
            "id": "berth-demo", "type": "model", "display_name": "Berth's demo model",
            "created_at": "2026-11-01T00:00:00Z",
        }],
        "has_more": false, "first_id": "berth-demo", "last_id": "berth-demo",
    })
}
