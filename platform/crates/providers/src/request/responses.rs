//! The cost bound of an OpenAI Responses request.

use super::chat::{ADDED_ALWAYS, ADDED_WITH_TOOLS_OR_FORMAT, cache_writes};
use super::json::{JsonObject, JsonValue};
use super::{
    ContentKind, ModelRequest, RequestError, ToolDemand, count, is_text, model, parse, service_tier, stream, tools,
};
use crate::{Demand, Provider, ServiceTier};

/// See the constant of the same name in `messages.rs`.
const BOUNDED_FIELDS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "stream",
    "stream_options",
    "background",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "verbosity",
];

const TEXT_BLOCKS: &[&str] = &["input_text", "output_text", "text", "refusal"];

/// Fields that refer to objects stored at the provider. All tenants share the platform's key there, so a tenant with
/// the id of another tenant's object could have the model read it out (confused deputy).
const STORED_OBJECTS: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Tool types that run at the client.
const CLIENT_TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview"];
/// Versions of the web search whose price is in the table. Earlier versions have other prices.
const SEARCHES: &[&str] = &["web_search", "web_search_2025_08_26"];

/// Input tokens of the description of a provider's tool, which is not in the body: more than twice the measured figure.
const ADDED_FOR_PROVIDER_TOOL: u64 = 2048;

/// Parses a body of `POST /v1/responses`. `default_tier` applies to a request without `service_tier`.
///
/// # Errors
/// When the request cannot be forwarded; the error names the field.
pub fn read(bytes: &[u8], default_tier: ServiceTier) -> Result<ModelRequest, RequestError> {
    let body = parse(bytes)?;
    refuse_unpriced(&body)?;
    refuse_stored(&body)?;
    let tools = read_tools(&body)?;
    // Search results are input that no body contains.
    let content = if tools.web_searches > 0 { ContentKind::Unbounded } else { content_kind(&body) };
    let reasoning_is_off =
        body.get("reasoning").and_then(|r| r.get("effort")).is_some_and(|effort| effort.is_str("none"));
    let demand = Demand {
        provider: Provider::OPENAI,
        model: model(&body)?,
        service: service_tier(&body, default_tier)?,
        input: content.bound(bytes, tools.added_tokens),
        cache_writes: cache_writes(&body),
        max_output_tokens: count(&body, "max_output_tokens")?,
        answers: 1,
        extra_output_tokens: 0,
        web_searches: tools.web_searches,
        may_be_us: false,
        may_hide_output: !reasoning_is_off,
    };
    Ok(ModelRequest { demand, stream: stream(&body)?, body_with_usage: None })
}

fn refuse_unpriced(body: &JsonObject<'_>) -> Result<(), RequestError> {
    for (field, why) in [
        ("moderation", "its charge is not known."),
        ("context_management", "what it costs to compact a context is not in the usage that the provider reports."),
    ] {
        if body.has(field) {
            return Err(RequestError::unpriced(field, why));
        }
    }
    if body.non_null("background").is_some_and(|background| !matches!(background, JsonValue::Bool(false))) {
        let why = "a call that goes on without its caller cannot be settled. Leave it out and stream the answer.";
        return Err(RequestError::unpriced("background", why));
    }
    Ok(())
}

fn refuse_stored(body: &JsonObject<'_>) -> Result<(), RequestError> {
    let why = "what the provider keeps is not told apart by account here. Send the whole input instead.";
    if let Some(field) = STORED_OBJECTS.into_iter().find(|field| body.non_null(field).is_some()) {
        return Err(RequestError::new(field, why));
    }
    let is_reference = |item: &JsonValue<'_>| item.get("type").is_some_and(|kind| kind.is_str("item_reference"));
    match body.get("input") {
        Some(JsonValue::Array(items)) if items.iter().any(is_reference) => Err(RequestError::new("input", why)),
        _ => Ok(()),
    }
}

/// Adds up the tools of a request.
///
/// # Errors
/// For a tool that runs at the provider, other than a limited web search.
pub(super) fn read_tools(body: &JsonObject<'_>) -> Result<ToolDemand, RequestError> {
    let has_more = body.has("tools") || body.has("text");
    let added_tokens = ADDED_ALWAYS + if has_more { ADDED_WITH_TOOLS_OR_FORMAT } else { 0 };
    let mut read = ToolDemand { added_tokens, web_searches: 0 };
    for tool in tools(body)? {
        let kind = tool.get("type").and_then(JsonValue::as_str).unwrap_or_default();
        if SEARCHES.contains(&kind) {
            // `max_tool_calls` limits all built-in tools together, so two search tools do not add up.
            read.web_searches = count(body, "max_tool_calls")?.ok_or_else(|| {
                RequestError::unpriced("tools", "web_search needs max_tool_calls, because each search is charged.")
            })?;
        } else if !runs_at_client(kind, tool) {
            return Err(RequestError::unpriced(
                "tools",
                "a tool that runs at the provider is charged by use. Functions that you run yourself work, and \
                 web_search with max_tool_calls.",
            ));
        }
        // The body contains the descriptions of functions, but not those of the provider's own tools.
        if kind != "function" && kind != "custom" {
            read.added_tokens += ADDED_FOR_PROVIDER_TOOL;
        }
    }
    Ok(read)
}

fn runs_at_client(kind: &str, tool: &JsonValue<'_>) -> bool {
    let type_of = |value: &JsonValue<'_>| value.get("type").and_then(JsonValue::as_str).unwrap_or_default().to_owned();
    match kind {
        "shell" => tool.get("environment").is_some_and(|environment| type_of(environment) == "local"),
        // A namespace is a group of functions.
        "namespace" => tool
            .get("tools")
            .and_then(JsonValue::as_array)
            .is_some_and(|tools| tools.iter().all(|tool| ["function", "custom"].contains(&type_of(tool).as_str()))),
        _ => CLIENT_TOOLS.contains(&kind),
    }
}

fn content_kind(body: &JsonObject<'_>) -> ContentKind {
    let input_is_text = match body.get("input") {
        Some(JsonValue::Array(items)) => items.iter().all(is_text_item),
        _ => true,
    };
    let fields_are_known = body.names().all(|field| BOUNDED_FIELDS.contains(&field));
    ContentKind::text_if(input_is_text && is_text(body.get("instructions"), TEXT_BLOCKS) && fields_are_known)
}

/// Whether the bytes of an input item bound its tokens. They do not if the item refers to an object stored at the
/// provider, such as reasoning without its encrypted text.
fn is_text_item(item: &JsonValue<'_>) -> bool {
    match item.get("type").filter(|kind| !kind.is_null()).map(|kind| kind.as_str().unwrap_or_default()) {
        None | Some("message") => is_text(item.get("content"), TEXT_BLOCKS),
        Some("function_call" | "custom_tool_call") => true,
        Some("function_call_output" | "custom_tool_call_output") => is_text(item.get("output"), TEXT_BLOCKS),
        // Without the encrypted text the item is an id, and the provider adds the stored reasoning.
        Some("reasoning") => item.get("encrypted_content").is_some_and(JsonValue::is_text),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputBound, TierChoice};

    fn read_with(more: &str) -> Result<Demand, RequestError> {
        read(format!(r#"{{"model":"m","input":"hi"{more}}}"#).as_bytes(), ServiceTier::Standard)
            .map(|asked| asked.demand)
    }

    fn is_open(demand: &Demand) -> bool {
        matches!(demand.input, InputBound::WholeModel { .. })
    }

    #[test]
    fn each_field_changes_the_demand_as_it_is_priced() {
        let plain = read_with("").unwrap();
        assert!(!is_open(&plain) && plain.may_hide_output && plain.max_output_tokens.is_none());
        assert_eq!(read_with(r#","max_output_tokens":7"#).unwrap().max_output_tokens, Some(7));
        assert!(!read_with(r#","reasoning":{"effort":"none"}"#).unwrap().may_hide_output);
        let tier = read_with(r#","service_tier":"priority""#).unwrap().service;
        assert_eq!(tier, TierChoice::Named(ServiceTier::Priority));
        let search = read_with(r#","tools":[{"type":"web_search"}],"max_tool_calls":3"#).unwrap();
        assert!(is_open(&search) && search.web_searches == 3);
    }

    #[test]
    fn stored_or_fetched_input_is_bounded_by_the_context_window() {
        assert!(is_open(&read_with(r#","a_field_of_tomorrow":1"#).unwrap()));
        let with_item = |item: &str| {
            let body = format!(r#"{{"model":"m","input":[{{"role":"user","content":"hi"}},{item}]}}"#);
            read(body.as_bytes(), ServiceTier::Standard).unwrap().demand
        };
        for item in [
            r#"{"type":"message","role":"user","content":[{"type":"input_image","image_url":"https://example.com"}]}"#,
            r#"{"type":"message","role":"user","content":[{"type":"input_file","file_id":"file_1"}]}"#,
            r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_file","file_id":"f"}]}"#,
        ] {
            assert!(is_open(&with_item(item)), "{item}");
        }
        for item in [
            r#"{"role":"user","content":[{"type":"input_text","text":"x"}]}"#,
            r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#,
            r#"{"type":"function_call_output","call_id":"c","output":"42"}"#,
            r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}"#,
        ] {
            assert!(!is_open(&with_item(item)), "{item}");
        }
    }

    #[test]
    fn references_to_stored_objects_are_refused() {
        for (more, field) in [
            (r#","previous_response_id":"resp_1""#, "previous_response_id"),
            (r#","conversation":"conv_1""#, "conversation"),
            (r#","prompt":{"id":"pmpt_1"}"#, "prompt"),
            (r#","input":[{"type":"item_reference","id":"msg_1"}]"#, "input"),
        ] {
            let body = format!(r#"{{"model":"m"{more}}}"#);
            let refused = read(body.as_bytes(), ServiceTier::Standard).unwrap_err();
            assert_eq!(refused.field, Some(field), "{more}");
        }
        assert!(read_with(r#","previous_response_id":null"#).is_ok());
    }

    #[test]
    fn fields_without_a_price_are_refused_by_name() {
        for (more, field) in [
            (r#","background":true"#, "background"),
            (r#","context_management":[{"type":"compaction"}]"#, "context_management"),
            (r#","service_tier":"scale""#, "service_tier"),
            (r#","tools":[{"type":"web_search"}]"#, "tools"),
            (r#","tools":[{"type":"web_search_preview"}],"max_tool_calls":1"#, "tools"),
            (r#","tools":[{"type":"code_interpreter"}]"#, "tools"),
            (r#","tools":[{"type":"file_search"}]"#, "tools"),
            (r#","tools":[{"type":"mcp"}]"#, "tools"),
            (r#","tools":[{"type":"shell","environment":{"type":"container_auto"}}]"#, "tools"),
            (r#","max_output_tokens":-1"#, "max_output_tokens"),
        ] {
            assert_eq!(read_with(more).unwrap_err().field, Some(field), "{more}");
        }
        for more in [
            r#","background":false,"store":true"#,
            r#","tools":[{"type":"function","name":"f"},{"type":"shell","environment":{"type":"local"}}]"#,
            r#","tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}]"#,
        ] {
            assert!(!is_open(&read_with(more).unwrap()), "{more}");
        }
    }
}
