//! The wire format of OpenAI's Chat Completions API, as the demo model answers it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::script::AnswerScript;
use super::wire_shape::WireShape;

/// The creation time of every answer. Fixed, so that equal requests give equal bytes.
pub const CREATED: u64 = 1_793_491_200;

pub const SHAPE: WireShape = WireShape {
    whole,
    frames,
    error,
    overloaded: "data: {\"error\":{\"message\":\"The server is overloaded.\",\"type\":\"server_error\",\"param\":null,\"code\":\"server_is_overloaded\"}}\n\n",
};

fn finish_reason(script: &AnswerScript) -> &'static str {
    if script.is_cut { "length" } else { "stop" }
}

fn usage(script: &AnswerScript) -> Value {
    json!({
        "prompt_tokens": script.input_tokens, "completion_tokens": script.output_tokens(),
        "total_tokens": script.input_tokens + script.output_tokens(),
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

fn whole(script: &AnswerScript) -> Value {
    let choice = |index: u64| {
        json!({
            "index": index, "message": { "role": "assistant", "content": script.text(), "refusal": null },
            "logprobs": null, "finish_reason": finish_reason(script),
        })
    };
    json!({
        "id": format!("chatcmpl-demo-{}", script.id), "object": "chat.completion", "created": CREATED,
        "model": script.model, "choices": (0..script.answers).map(choice).collect::<Vec<_>>(),
        "usage": usage(script), "service_tier": "default", "system_fingerprint": "fp_demo",
    })
}

fn frames(script: &AnswerScript) -> Vec<(String, u64)> {
    let mut frames = Vec::new();
    for index in 0..script.answers {
        let mut push = |delta: Value, finish: Option<&str>, tokens: u64| {
            let choice = json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish });
            frames.push((chunk(script, &json!([choice]), None), tokens));
        };
        push(json!({ "role": "assistant", "content": "" }), None, 0);
        for word in &script.words {
            push(json!({ "content": word }), None, 1);
        }
        push(json!({}), Some(finish_reason(script)), 0);
    }
    // A last chunk without choices, only if `stream_options` requested it.
    if script.include_usage {
        frames.push((chunk(script, &json!([]), Some(usage(script))), 0));
    }
    // The end marker of the API, which is not JSON.
    frames.push(("data: [DONE]\n\n".into(), 0));
    frames
}

/// One chunk of a stream. As in the API, every chunk has a `usage`, mostly null, if usage was requested; otherwise no
/// chunk has one.
fn chunk(script: &AnswerScript, choices: &Value, usage: Option<Value>) -> String {
    let mut chunk = json!({
        "id": format!("chatcmpl-demo-{}", script.id), "object": "chat.completion.chunk", "created": CREATED,
        "model": script.model, "choices": choices, "service_tier": "default", "system_fingerprint": "fp_demo",
    });
    if script.include_usage {
        chunk["usage"] = usage.unwrap_or_default();
    }
    format!("data: {chunk}\n\n")
}

pub fn error(status: StatusCode) -> Value {
    let message = format!("The demo model answers {status} here.");
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
}

pub fn models() -> Value {
    let model = |id: &str| json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "berth" });
    json!({ "object": "list", "data": [model("berth-demo"), model("berth-demo-embedding")] })
}
