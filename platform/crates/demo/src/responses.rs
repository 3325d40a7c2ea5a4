//! The wire format of OpenAI's Responses API, as the demo model answers it.

use serde_json::{Value, json};

use super::openai::{CREATED, error};
use super::script::AnswerScript;
use super::wire_shape::WireShape;

pub const SHAPE: WireShape = WireShape {
    whole,
    frames,
    error,
    overloaded: "event: error\ndata: {\"type\":\"error\",\"code\":\"server_is_overloaded\",\"message\":\"The server is overloaded.\",\"param\":null,\"sequence_number\":99}\n\n",
};

fn whole(script: &AnswerScript) -> Value {
    response(script, Some(&item(script, "completed", &script.text())))
}

/// The response object: without an item it is in progress; with an item it is complete and includes the usage.
fn response(script: &AnswerScript, item: Option<&Value>) -> Value {
    let status = match item {
        None => "in_progress",
        Some(_) if script.is_cut => "incomplete",
        Some(_) => "completed",
    };
    let usage = item.map(|_| {
        json!({
            "input_tokens": script.input_tokens, "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
            "output_tokens": script.output_tokens(), "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": script.input_tokens + script.output_tokens(),
        })
    });
    let why = (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" }));
    json!({
        "id": format!("resp_demo_{}", script.id), "object": "response", "created_at": CREATED, "status": status,
        "model": script.model, "output": item.into_iter().collect::<Vec<_>>(), "error": null, "incomplete_details": why,
        "instructions": null, "metadata": {}, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "service_tier": "default", "usage": usage,
    })
}

fn item(script: &AnswerScript, status: &str, text: &str) -> Value {
    let content = if status == "in_progress" { json!([]) } else { json!([part(text)]) };
    json!({
        "id": item_id(script), "type": "message", "role": "assistant", "status": status, "content": content,
    })
}

fn item_id(script: &AnswerScript) -> String {
    format!("msg_demo_{}", script.id)
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn frames(script: &AnswerScript) -> Vec<(String, u64)> {
    let mut frames = Vec::new();
    let mut push = |kind: &str, more: Value, tokens: u64| {
        // The API numbers the events of a stream.
        let mut data = json!({ "type": kind, "sequence_number": frames.len() });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        frames.push((format!("event: {kind}\ndata: {data}\n\n"), tokens));
    };
    let (text, done) = (script.text(), item(script, "completed", &script.text()));
    let place = json!({ "item_id": item_id(script), "output_index": 0, "content_index": 0 });
    let placed = |name: &str, value: Value| {
        let mut placed = place.clone();
        placed[name] = value;
        placed
    };
    push("response.created", json!({ "response": response(script, None) }), 0);
    push("response.in_progress", json!({ "response": response(script, None) }), 0);
    let begun = item(script, "in_progress", "");
    push("response.output_item.added", json!({ "output_index": 0, "item": begun }), 0);
    push("response.content_part.added", placed("part", part("")), 0);
    for word in &script.words {
        let mut delta = placed("delta", word.as_str().into());
        delta["logprobs"] = json!([]);
        push("response.output_text.delta", delta, 1);
    }
    let mut whole = placed("text", text.as_str().into());
    whole["logprobs"] = json!([]);
    push("response.output_text.done", whole, 0);
    push("response.content_part.done", placed("part", part(&text)), 0);
    push("response.output_item.done", json!({ "output_index": 0, "item": done }), 0);
    let end = if script.is_cut { "response.incomplete" } else { "response.completed" };
    push(end, json!({ "response": response(script, Some(&done)) }), 0);
    frames
}
