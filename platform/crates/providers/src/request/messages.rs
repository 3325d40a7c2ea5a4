//! The cost bound of an Anthropic Messages request.

use super::json::{JsonObject, JsonValue};
use super::{ContentKind, ModelRequest, RequestError, ToolDemand, count, is_text, model, parse, stream, tools};
use crate::{CacheWrites, Demand, Provider, ServiceTier, TierChoice};

/// Fields that neither change the price of a token nor add input beyond the bytes of the body. A request with any other
/// field is forwarded as well, with a hold for the model's whole context window.
const BOUNDED_FIELDS: &[&str] = &[
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

/// Content blocks with at most as many tokens as bytes. `thinking` and `redacted_thinking` contain the encrypted
/// reasoning, which is longer than the reasoning itself.
const TEXT_BLOCKS: &[&str] = &["text", "tool_use", "tool_result", "thinking", "redacted_thinking"];

/// Prefixes of Anthropic's tool types that run at the client. The provider adds a description that is not in the body.
const CLIENT_TOOLS: &[&str] = &["bash_", "text_editor_", "computer_", "memory_"];

/// Input tokens that the provider adds: more than twice the documented figures, which are up to 346 for the use of
/// tools, 735 for the largest of its own tools, and "an additional system prompt" for output formats.
const ADDED_ALWAYS: u64 = 256;
const ADDED_WITH_TOOLS_OR_FORMAT: u64 = 1024;
const ADDED_FOR_PROVIDER_TOOL: u64 = 2048;

/// Parses a body of `POST /v1/messages`.
///
/// # Errors
/// When the request cannot be forwarded; the error names the field.
pub fn read(bytes: &[u8]) -> Result<ModelRequest, RequestError> {
    let body = parse(bytes)?;
    refuse_unpriced(&body)?;
    let tools = read_tools(&body)?;
    let max_tokens = count(&body, "max_tokens")?.ok_or_else(|| RequestError::new("max_tokens", "Field required"))?;
    let service = match body.non_null("speed") {
        None => TierChoice::Auto(ServiceTier::Standard),
        Some(speed) if speed.is_str("standard") => TierChoice::Named(ServiceTier::Standard),
        Some(speed) if speed.is_str("fast") => TierChoice::Named(ServiceTier::Fast),
        Some(_) => return Err(RequestError::unpriced("speed", "only standard or fast is offered.")),
    };
    // Search results are input that no body contains, and the provider caches the turns before a search on its own.
    let searches = tools.web_searches > 0;
    let writes = if searches { CacheWrites::Short } else { cache_control(&body) };
    let content = if searches { ContentKind::Unbounded } else { content_kind(&body) };
    // Without `thinking` the model decides. Reasoning is billed in full, while the response may contain a summary or
    // nothing.
    let thinking_is_off =
        body.get("thinking").and_then(|thinking| thinking.get("type")).is_some_and(|t| t.is_str("disabled"));
    let demand = Demand {
        provider: Provider::ANTHROPIC,
        model: model(&body)?,
        service,
        input: content.bound(bytes, tools.added_tokens),
        cache_writes: body.values().map(cache_writes).fold(writes, dearer),
        max_output_tokens: Some(max_tokens),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: tools.web_searches,
        // Unless the request says `global`, the operator's workspace decides, which is unknown here.
        may_be_us: !body.get("inference_geo").is_some_and(|geo| geo.is_str("global")),
        may_hide_output: !thinking_is_off,
    };
    Ok(ModelRequest { demand, stream: stream(&body)?, body_with_usage: None })
}

fn refuse_unpriced(body: &JsonObject<'_>) -> Result<(), RequestError> {
    for (field, why) in [
        ("container", "code execution is charged by time."),
        ("mcp_servers", "tools that run at the provider can add any amount of input."),
        ("fallbacks", "another model may answer, at another price."),
        ("billing_policy", "it lets another account pay."),
        ("compaction", "its tokens are not in the usage that the provider reports."),
        ("thread", "input that the provider keeps is not in the body."),
    ] {
        if body.has(field) {
            return Err(RequestError::unpriced(field, why));
        }
    }
    // Both values have the same prices: `auto` may use capacity that the operator committed to, `standard_only` may
    // not.
    if body.non_null("service_tier").is_some_and(|tier| !tier.is_str("auto") && !tier.is_str("standard_only")) {
        return Err(RequestError::unpriced("service_tier", "only auto or standard_only is offered."));
    }
    let clears =
        |edit: &JsonValue<'_>| edit.get("type").and_then(JsonValue::as_str).is_some_and(|t| t.starts_with("clear_"));
    let edits = body.get("context_management").and_then(|management| management.get("edits"));
    if edits.is_some_and(|edits| !edits.as_array().is_some_and(|edits| edits.iter().all(clears))) {
        return Err(RequestError::unpriced("context_management", "only edits that clear are offered."));
    }
    Ok(())
}

/// Adds up the tools of a request.
///
/// # Errors
/// For a tool that runs at the provider, other than a limited web search.
pub(super) fn read_tools(body: &JsonObject<'_>) -> Result<ToolDemand, RequestError> {
    let offered = tools(body)?;
    let mut read = ToolDemand { added_tokens: ADDED_ALWAYS, web_searches: 0 };
    for tool in offered {
        match tool.get("type").filter(|kind| !kind.is_null()).map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("custom") => {}
            Some(kind) if CLIENT_TOOLS.iter().any(|known| kind.starts_with(known)) => {
                read.added_tokens += ADDED_FOR_PROVIDER_TOOL;
            }
            Some(kind) if kind.starts_with("web_search_") => {
                // Each tool has a limit of its own, so several of them add up.
                read.web_searches = read.web_searches.saturating_add(searches(kind, tool)?);
                read.added_tokens += ADDED_FOR_PROVIDER_TOOL;
            }
            Some(_) => {
                return Err(RequestError::unpriced(
                    "tools",
                    "a tool that runs at the provider is charged by use. Tools that you run yourself work, and \
                     web_search with max_uses.",
                ));
            }
        }
    }
    if !offered.is_empty() || body.has("output_config") || body.has("output_format") {
        read.added_tokens += ADDED_WITH_TOOLS_OR_FORMAT;
    }
    Ok(read)
}

/// The search limit of a `web_search` tool. From its second version, code that runs at the provider may call it too.
fn searches(kind: &str, tool: &JsonValue<'_>) -> Result<u64, RequestError> {
    let callers = tool.get("allowed_callers").and_then(JsonValue::as_array);
    let is_direct_only = callers.is_some_and(|callers| callers.iter().all(|caller| caller.is_str("direct")));
    // The first version has no `allowed_callers`: only the model can call it.
    if !is_direct_only && (callers.is_some() || kind != "web_search_20250305") {
        let why = r#"a web_search that code at the provider may call has no limit; set allowed_callers to ["direct"]."#;
        return Err(RequestError::unpriced("tools", why));
    }
    match tool.get("max_uses") {
        Some(JsonValue::Count(uses)) => Ok(*uses),
        _ => Err(RequestError::unpriced("tools", "web_search needs max_uses, because each search is charged.")),
    }
}

fn content_kind(body: &JsonObject<'_>) -> ContentKind {
    let messages_are_text = match body.get("messages") {
        Some(JsonValue::Array(messages)) => messages.iter().all(|message| is_text(message.get("content"), TEXT_BLOCKS)),
        _ => true,
    };
    let fields_are_known = body.names().all(|field| BOUNDED_FIELDS.contains(&field));
    ContentKind::text_if(messages_are_text && is_text(body.get("system"), TEXT_BLOCKS) && fields_are_known)
}

/// The most expensive cache write that a `cache_control` at any depth of `value` can cause.
fn cache_writes(value: &JsonValue<'_>) -> CacheWrites {
    match value {
        JsonValue::Array(values) => values.iter().map(cache_writes).fold(CacheWrites::Never, dearer),
        JsonValue::JsonObject(object) => object.values().map(cache_writes).fold(cache_control(object), dearer),
        _ => CacheWrites::Never,
    }
}

fn cache_control(object: &JsonObject<'_>) -> CacheWrites {
    match object.non_null("cache_control").map(|control| control.get("ttl")) {
        None => CacheWrites::Never,
        Some(None | Some(JsonValue::Null)) => CacheWrites::Short,
        Some(Some(ttl)) if ttl.is_str("5m") => CacheWrites::Short,
        // `1h`, or an unknown value: the more expensive price.
        Some(Some(_)) => CacheWrites::Long,
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
    use crate::InputBound;

    fn read_with(more: &str) -> Result<Demand, RequestError> {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        read(body.as_bytes()).map(|asked| asked.demand)
    }

    #[test]
    fn each_field_changes_the_demand_as_it_is_priced() {
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
    fn an_image_in_a_tool_result_makes_the_input_unbounded() {
        let body = br#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result",
            "tool_use_id":"t","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"url"}}]}]}]}"#;
        assert!(matches!(read(body).unwrap().demand.input, InputBound::WholeModel { .. }));
    }

    #[test]
    fn fields_without_a_price_are_refused_by_name() {
        for (more, field) in [
            (r#","speed":"faster""#, "speed"),
            (r#","service_tier":"priority""#, "service_tier"),
            (r#","container":"c""#, "container"),
            (r#","mcp_servers":[]"#, "mcp_servers"),
            (r#","tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "tools"),
            (r#","tools":[{"type":"web_search_20260209","name":"web_search","max_uses":1}]"#, "tools"),
            (r#","tools":[{"type":"web_fetch_20250910","name":"web_fetch","max_uses":1}]"#, "tools"),
            (r#","context_management":{"edits":[{"type":"compact_20260112"}]}"#, "context_management"),
        ] {
            assert_eq!(read_with(more).unwrap_err().field, Some(field));
        }
        assert!(read_with(r#","speed":"standard","service_tier":"auto","context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#).is_ok());
        assert_eq!(read(br#"{"model":"m","messages":[]}"#).unwrap_err().field, Some("max_tokens"));
        assert_eq!(read(br#"{"model":"m","max_tokens":1e3}"#).unwrap_err().field, Some("max_tokens"));
    }

    #[test]
    fn a_search_limit_and_a_speed_are_part_of_the_demand() {
        let direct = r#"{"type":"web_search_20260209","name":"web_search","max_uses":2,"allowed_callers":["direct"]}"#;
        let first = r#"{"type":"web_search_20250305","name":"web_search","max_uses":3}"#;
        let demand = read_with(&format!(r#","tools":[{first},{direct}]"#)).unwrap();
        assert_eq!((demand.web_searches, demand.cache_writes), (5, CacheWrites::Short));
        assert!(matches!(demand.input, InputBound::WholeModel { .. }));
        assert_eq!(read_with(r#","speed":"fast""#).unwrap().service, TierChoice::Named(ServiceTier::Fast));
        assert_eq!(read_with("").unwrap().service, TierChoice::Auto(ServiceTier::Standard));
    }
}
