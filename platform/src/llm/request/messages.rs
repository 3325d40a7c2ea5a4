//! What an Anthropic Messages call can cost.

use serde_json::{Map, Value};

use super::{Asked, Unacceptable, count, is_set, is_text, model, parse, stream};
use crate::quota::{CacheWrites, Demand, InputBound, Provider};

/// Fields that change neither the price of a token nor how many there can be beyond the body's bytes. With a field
/// that is not among them the call is forwarded, and its input held as large as the model takes.
const KNOWN: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_k",
    "top_p",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "cache_control",
    "service_tier",
    "inference_geo",
    "speed",
    "diagnostics",
    "context_management",
    "fallback_credit_token",
];

/// Blocks whose tokens are bounded by their bytes. `thinking` and `redacted_thinking` carry the whole thought in
/// encrypted form, which is longer than the thought.
const TEXTUAL: &[&str] = &["text", "tool_use", "tool_result", "thinking", "redacted_thinking"];

/// Tools that the client runs itself; each may bring a description that is not in the body.
const CLIENT_TOOLS: &[&str] = &["bash_", "text_editor_", "computer_", "memory_"];

/// Tokens that the provider adds by itself. Its documentation names up to 346 for tools at all, 735 for the largest
/// tool of its own and "an additional system prompt" for output formats; doubled and rounded up.
const ADDED_ALWAYS: u64 = 256;
const ADDED_WITH_TOOLS_OR_FORMAT: u64 = 1024;
const ADDED_FOR_ITS_OWN_TOOL: u64 = 2048;

/// Reads a body of `POST /v1/messages`.
///
/// # Errors
/// The field that cannot be forwarded, and why.
pub fn read(bytes: &[u8]) -> Result<Asked, Unacceptable> {
    let body = parse(bytes)?;
    refuse_unpriced(&body)?;
    let tools = read_tools(&body)?;
    let max_tokens = count(&body, "max_tokens")?.ok_or_else(|| Unacceptable::new("max_tokens", "Field required"))?;
    let may_be_us = match body.get("inference_geo") {
        Some(Value::String(geo)) => geo != "global",
        _ => true,
    };
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX / 2);
    let tokens = (ADDED_ALWAYS + tools).saturating_add(size);
    // Not set, it is up to the model; and a thought may be shown shorter than it is charged, or not at all.
    let thinks_not = body.get("thinking").and_then(|thinking| thinking.get("type")).is_some_and(|t| t == "disabled");
    let demand = Demand {
        provider: Provider::Anthropic,
        model: model(&body)?,
        input: if is_bounded_by_bytes(&body) {
            InputBound::Tokens(tokens)
        } else {
            InputBound::WholeModel { at_least: tokens }
        },
        cache_writes: body.values().map(cache_writes).fold(cache_control(&body), dearer),
        max_output_tokens: Some(max_tokens),
        answers: 1,
        extra_output_tokens: 0,
        may_be_us,
        may_hide_output: !thinks_not,
    };
    Ok(Asked { demand, stream: stream(&body)?, add_usage: false })
}

fn refuse_unpriced(body: &Map<String, Value>) -> Result<(), Unacceptable> {
    for (field, why) in [
        ("container", "code execution is charged by time."),
        ("mcp_servers", "tools that run at the provider can add any amount of input."),
        ("fallbacks", "another model may answer, at another price."),
        ("billing_policy", "it lets somebody else pay."),
        ("compaction", "its tokens are not in the usage that the provider reports."),
        ("thread", "input that the provider keeps is not in the body."),
    ] {
        if is_set(body, field) {
            return Err(Unacceptable::unpriced(field, why));
        }
    }
    for (field, free) in [("speed", &["standard"][..]), ("service_tier", &["auto", "standard_only"])] {
        if is_set(body, field) && !body[field].as_str().is_some_and(|value| free.contains(&value)) {
            return Err(Unacceptable::unpriced(field, &format!("only {} is offered.", free.join(" or "))));
        }
    }
    let edits = body.get("context_management").and_then(|m| m.get("edits"));
    let clears = |edit: &Value| edit.get("type").and_then(Value::as_str).is_some_and(|t| t.starts_with("clear_"));
    if edits.is_some_and(|edits| !edits.as_array().is_some_and(|edits| edits.iter().all(clears))) {
        return Err(Unacceptable::unpriced("context_management", "only edits that clear are offered."));
    }
    Ok(())
}

/// The tokens that come with tools and output formats beyond their bytes.
fn read_tools(body: &Map<String, Value>) -> Result<u64, Unacceptable> {
    let no_tools = Vec::new();
    let tools = match body.get("tools") {
        None | Some(Value::Null) => &no_tools,
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(Unacceptable::new("tools", "must be an array.")),
    };
    let mut added = 0;
    for tool in tools {
        match tool.get("type") {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind == "custom" => {}
            Some(Value::String(kind)) if CLIENT_TOOLS.iter().any(|known| kind.starts_with(known)) => {
                added += ADDED_FOR_ITS_OWN_TOOL;
            }
            _ => {
                return Err(Unacceptable::unpriced(
                    "tools",
                    "a tool that runs at the provider is charged by use. Tools that you run yourself work.",
                ));
            }
        }
    }
    let has_more = !tools.is_empty() || is_set(body, "output_config") || is_set(body, "output_format");
    Ok(added + if has_more { ADDED_WITH_TOOLS_OR_FORMAT } else { 0 })
}

fn is_bounded_by_bytes(body: &Map<String, Value>) -> bool {
    let messages_are_text = match body.get("messages") {
        Some(Value::Array(messages)) => messages.iter().all(|message| is_text(message.get("content"), TEXTUAL)),
        _ => true,
    };
    messages_are_text
        && is_text(body.get("system"), TEXTUAL)
        && body.keys().all(|field| KNOWN.contains(&field.as_str()))
}

/// The dearest cache write that a `cache_control` anywhere below `value` can cause.
fn cache_writes(value: &Value) -> CacheWrites {
    match value {
        Value::Array(values) => values.iter().map(cache_writes).fold(CacheWrites::Never, dearer),
        Value::Object(object) => object.values().map(cache_writes).fold(cache_control(object), dearer),
        _ => CacheWrites::Never,
    }
}

fn cache_control(object: &Map<String, Value>) -> CacheWrites {
    match object.get("cache_control") {
        None | Some(Value::Null) => CacheWrites::Never,
        Some(control) => match control.get("ttl") {
            None | Some(Value::Null) => CacheWrites::Short,
            Some(ttl) if ttl == "5m" => CacheWrites::Short,
            Some(_) => CacheWrites::Long,
        },
    }
}

fn dearer(a: CacheWrites, b: CacheWrites) -> CacheWrites {
    match (a, b) {
        (CacheWrites::Long, _) | (_, CacheWrites::Long) => CacheWrites::Long,
        (CacheWrites::Short, _) | (_, CacheWrites::Short) => CacheWrites::Short,
        _ => CacheWrites::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(more: &str) -> Result<Demand, Unacceptable> {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        read(body.as_bytes()).map(|asked| asked.demand)
    }

    #[test]
    fn what_decides_the_hold() {
        let demand = read_with("").unwrap();
        assert!(matches!(demand.input, InputBound::Tokens(n) if n > 60));
        assert_eq!((demand.cache_writes, demand.max_output_tokens), (CacheWrites::Never, Some(9)));
        for (more, writes) in [
            (r#","cache_control":{"type":"ephemeral"}"#, CacheWrites::Short),
            (
                r#","system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"5m"}}]"#,
                CacheWrites::Short,
            ),
            (
                r#","tools":[{"name":"t","input_schema":{},"cache_control":{"type":"ephemeral","ttl":"1h"}}]"#,
                CacheWrites::Long,
            ),
            (r#","tools":[{"name":"t","cache\u005fcontrol":{"type":"ephemeral","ttl":"1h"}}]"#, CacheWrites::Long),
        ] {
            assert_eq!(read_with(more).unwrap().cache_writes, writes, "{more}");
        }
        for whole in [r#","system":[{"type":"document","source":{}}]"#, r#","a_field_of_tomorrow":1"#] {
            assert!(matches!(read_with(whole).unwrap().input, InputBound::WholeModel { at_least: 300.. }), "{whole}");
        }
        assert!(!read_with(r#","inference_geo":"global""#).unwrap().may_be_us);
        assert!(demand.may_hide_output);
        assert!(read_with(r#","thinking":{"type":"enabled","budget_tokens":1024}"#).unwrap().may_hide_output);
        assert!(!read_with(r#","thinking":{"type":"disabled"}"#).unwrap().may_hide_output);
    }

    #[test]
    fn a_picture_in_a_tool_result_is_seen() {
        let body = br#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result",
            "tool_use_id":"t","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"url"}}]}]}]}"#;
        assert!(matches!(read(body).unwrap().demand.input, InputBound::WholeModel { .. }));
    }

    #[test]
    fn fields_without_a_price_are_refused_by_name() {
        for (more, field) in [
            (r#","speed":"fast""#, "speed"),
            (r#","service_tier":"priority""#, "service_tier"),
            (r#","container":"c""#, "container"),
            (r#","mcp_servers":[]"#, "mcp_servers"),
            (r#","tools":[{"type":"web_search_20260101","name":"web_search"}]"#, "tools"),
            (r#","context_management":{"edits":[{"type":"compact_20260112"}]}"#, "context_management"),
        ] {
            assert_eq!(read_with(more).unwrap_err().field, Some(field));
        }
        assert!(read_with(r#","speed":"standard","service_tier":"auto","context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#).is_ok());
        assert_eq!(read(br#"{"model":"m","messages":[]}"#).unwrap_err().field, Some("max_tokens"));
        assert_eq!(read(br#"{"model":"m","max_tokens":1e3}"#).unwrap_err().field, Some("max_tokens"));
    }
}
