//! Token counting: builds the request for a count of a call's input tokens, and derives the upper bound from its
//! answer.
//!
//! Both providers' endpoints accept some fields of a call and refuse others, so only the accepted members are sent.
//! Where the count could omit input, or could change before the call is made, no request is built, and the bytes of the
//! body bound the call.

use bytes::Bytes;

use super::json::{JsonObject, JsonValue};
use super::{messages, parse, responses};
use crate::splice;

/// The count is raised by one part in this many. Anthropic calls its count an estimate that "may differ by a small
/// amount" from the call, OpenAI calls its own exact; neither gives a figure. Reported differences are far below a
/// tenth, and a call that is billed beyond it raises an alert.
const MARGIN_DIVISOR: u64 = 10;

/// A request to a provider's token counting endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCountRequest {
    /// The path at the provider.
    pub path: &'static str,
    pub body: Bytes,
    /// Tokens that the count may omit.
    uncounted: u64,
}

impl TokenCountRequest {
    /// The upper bound of the input, given that the provider counts `tokens`.
    #[must_use]
    pub fn upper_bound(&self, tokens: u64) -> u64 {
        tokens.saturating_add(tokens.div_ceil(MARGIN_DIVISOR)).saturating_add(self.uncounted)
    }
}

/// The fields of a Messages request that determine its input. `context_management` is absent: it only removes input.
const MESSAGES_INPUT: &[&str] = &["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"];
/// The output format. A schema can have any size, and the documentation of the endpoint does not say whether it is
/// counted.
const FORMAT: &str = "output_config";
/// Fields that add no input.
const MESSAGES_OTHER: &[&str] = &[
    "max_tokens",
    "stream",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_k",
    "top_p",
    "cache_control",
    "service_tier",
    "inference_geo",
    "speed",
    "diagnostics",
    "context_management",
];

/// The counting request for a body of `POST /v1/messages`. `None` where its count would not be an upper bound.
#[must_use]
pub fn of_messages(bytes: &[u8]) -> Option<TokenCountRequest> {
    let body = parse(bytes).ok()?;
    let tools = messages::read_tools(&body).ok()?;
    // The endpoint refuses tools that run at the provider, and their results exist only during the call.
    let can_be_counted = tools.web_searches == 0 && has_only(&body, MESSAGES_INPUT, MESSAGES_OTHER);
    let conversation = body.get("messages").and_then(JsonValue::as_array)?;
    let contents = conversation.iter().map(|message| message.get("content")).chain([body.get("system")]);
    let uncounted = contents.map(uncounted).sum::<Option<u64>>().filter(|_| can_be_counted)?;
    let format = if body.has(FORMAT) { splice::with_only(bytes, &[FORMAT])?.len() } else { 0 };
    Some(TokenCountRequest {
        path: "/v1/messages/count_tokens",
        body: splice::with_only(bytes, MESSAGES_INPUT)?.into(),
        uncounted: uncounted.saturating_add(tools.added_tokens).saturating_add(size(format)),
    })
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Tokens of `content` that the count may omit. `None` where the count would not be an upper bound.
fn uncounted(content: Option<&JsonValue<'_>>) -> Option<u64> {
    match content {
        None | Some(JsonValue::Null | JsonValue::Text(_) | JsonValue::LongText(_)) => Some(0),
        Some(JsonValue::Array(blocks)) => blocks.iter().map(uncounted_in_block).sum(),
        Some(_) => None,
    }
}

fn uncounted_in_block(block: &JsonValue<'_>) -> Option<u64> {
    match block.get("type")?.as_str()? {
        "text" | "tool_use" => Some(0),
        "tool_result" => uncounted(block.get("content")),
        // The documentation says that reasoning of earlier turns is not counted, but some models do read it again. So
        // the bytes bound it, in addition to the count.
        "thinking" | "redacted_thinking" => Some(bytes_of_text(block)),
        "image" => is_inline(block).then_some(0),
        // With citations the provider splits a document into sentences, which adds tokens that the count may not
        // contain.
        "document" => (is_inline(block) && !has_non_null(block, "citations")).then_some(0),
        _ => None,
    }
}

/// Whether the body itself contains the image or document. Content behind a URL can change between count and call
/// (TOCTOU).
fn is_inline(block: &JsonValue<'_>) -> bool {
    let kind = block.get("source").and_then(|source| source.get("type"));
    kind.is_some_and(|kind| kind.is_str("base64") || kind.is_str("text"))
}

/// The length of all text in `value`, in bytes, which is at least the number of its tokens.
fn bytes_of_text(value: &JsonValue<'_>) -> u64 {
    match value {
        JsonValue::Text(text) => size(text.len()),
        JsonValue::LongText(bytes) => size(*bytes),
        JsonValue::Array(values) => values.iter().map(bytes_of_text).fold(0, u64::saturating_add),
        JsonValue::JsonObject(object) => object.values().map(bytes_of_text).fold(0, u64::saturating_add),
        _ => 0,
    }
}

/// The fields of a Responses request that determine its input. `truncation` is absent: it only removes input.
const RESPONSES_INPUT: &[&str] =
    &["model", "input", "instructions", "tools", "tool_choice", "text", "reasoning", "parallel_tool_calls"];
/// Fields that add no input.
const RESPONSES_OTHER: &[&str] = &[
    "stream",
    "stream_options",
    "background",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// The counting request for a body of `POST /v1/responses`. `None` where its count would not be an upper bound.
#[must_use]
pub fn of_responses(bytes: &[u8]) -> Option<TokenCountRequest> {
    let body = parse(bytes).ok()?;
    let tools = responses::read_tools(&body).ok()?;
    let is_inline = match body.get("input")? {
        JsonValue::Text(_) | JsonValue::LongText(_) => true,
        JsonValue::Array(items) => items.iter().all(is_inline_item),
        _ => false,
    };
    let can_be_counted = tools.web_searches == 0 && has_only(&body, RESPONSES_INPUT, RESPONSES_OTHER);
    let body = splice::with_only(bytes, RESPONSES_INPUT).filter(|_| is_inline && can_be_counted)?;
    Some(TokenCountRequest { path: "/v1/responses/input_tokens", body: body.into(), uncounted: tools.added_tokens })
}

/// Whether the body itself contains the whole item.
fn is_inline_item(item: &JsonValue<'_>) -> bool {
    match item.get("type").filter(|kind| !kind.is_null()).map(|kind| kind.as_str().unwrap_or_default()) {
        None | Some("message") => is_inline_content(item.get("content")),
        Some("function_call" | "custom_tool_call") => true,
        Some("function_call_output" | "custom_tool_call_output") => is_inline_content(item.get("output")),
        Some("reasoning") => item.get("encrypted_content").is_some_and(JsonValue::is_text),
        Some(_) => false,
    }
}

fn is_inline_content(content: Option<&JsonValue<'_>>) -> bool {
    let is_inline_part = |part: &JsonValue<'_>| match part.get("type").and_then(JsonValue::as_str) {
        Some("input_text" | "output_text" | "text" | "refusal") => true,
        Some("input_image") => {
            let url = part.get("image_url").and_then(JsonValue::as_str).unwrap_or_default();
            url.starts_with("data:") && !has_non_null(part, "file_id")
        }
        Some("input_file") => {
            has_non_null(part, "file_data") && !has_non_null(part, "file_id") && !has_non_null(part, "file_url")
        }
        _ => false,
    };
    match content {
        None | Some(JsonValue::Null | JsonValue::Text(_) | JsonValue::LongText(_)) => true,
        Some(JsonValue::Array(parts)) => parts.iter().all(is_inline_part),
        Some(_) => false,
    }
}

fn has_non_null(value: &JsonValue<'_>, name: &str) -> bool {
    value.get(name).is_some_and(|value| !value.is_null())
}

fn has_only(body: &JsonObject<'_>, input: &[&str], other: &[&str]) -> bool {
    body.names().all(|name| input.contains(&name) || other.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(blocks: &str) -> Option<TokenCountRequest> {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{blocks}]}}]}}"#);
        of_messages(body.as_bytes())
    }

    fn response(items: &str) -> Option<TokenCountRequest> {
        of_responses(format!(r#"{{"model":"m","input":[{items}]}}"#).as_bytes())
    }

    #[test]
    fn the_input_fields_are_counted_byte_for_byte() {
        let body = br#"{ "max_tokens":9, "model" : "m","stream":true,"messages":[{"role":"user","content":"h\u0069"}],
            "metadata":{"user_id":"x"}, "thinking":{"type":"adaptive"},"system":null }"#;
        let asked = of_messages(body).unwrap();
        let expected = r#"{"model" : "m","messages":[{"role":"user","content":"h\u0069"}],"thinking":{"type":"adaptive"},"system":null}"#;
        assert_eq!((asked.path, &*asked.body), ("/v1/messages/count_tokens", expected.as_bytes()));
        let body = br#"{"stream":true,"input":"hi","max_output_tokens":7,"model":"m","truncation":"auto","text":{"verbosity":"low"}}"#;
        let asked = of_responses(body).unwrap();
        let expected = r#"{"input":"hi","model":"m","text":{"verbosity":"low"}}"#;
        assert_eq!((asked.path, &*asked.body), ("/v1/responses/input_tokens", expected.as_bytes()));
    }

    #[test]
    fn the_bound_is_the_count_and_a_tenth_and_the_tokens_that_the_provider_adds() {
        let plain = message(r#"{"type":"text","text":"hi"}"#).unwrap();
        assert_eq!((plain.upper_bound(1000), plain.upper_bound(1), plain.upper_bound(u64::MAX)), (1356, 258, u64::MAX));
        assert_eq!(response(r#"{"role":"user","content":"hi"}"#).unwrap().upper_bound(1000), 1100 + 512);
        // It is unknown whether the count contains the format, so its bytes are added.
        let formatted = br#"{"model":"m","max_tokens":9,"messages":[],"output_config":{"effort":"low"}}"#;
        assert_eq!(of_messages(formatted).unwrap().upper_bound(1000), 1100 + 256 + 1024 + 34);
        let signature = "s".repeat(3000);
        let thought = message(&format!(
            r#"{{"type":"thinking","thinking":"{}\n","signature":"{signature}"}},{{"type":"redacted_thinking","data":"abc"}}"#,
            "t".repeat(400)
        ));
        assert_eq!(thought.unwrap().upper_bound(0), 256 + 8 + 401 + 3000 + 17 + 3);
    }

    #[test]
    fn inline_images_and_documents_are_counted_and_urls_are_not() {
        for block in [
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}"#,
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA"},"citations":null}"#,
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"base64","data":"AA"}}]}"#,
        ] {
            assert!(message(block).is_some(), "{block}");
        }
        for block in [
            r#"{"type":"image","source":{"type":"url","url":"https://example.com/x.png"}}"#,
            r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#,
            r#"{"type":"document","source":{"type":"base64","data":"AA"},"citations":{"enabled":true}}"#,
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"url"}}]}"#,
            r#"{"type":"block_of_tomorrow"}"#,
            r#"{"text":"no type"}"#,
        ] {
            assert_eq!(message(block), None, "{block}");
        }
        for item in [
            r#"{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AA"}]}"#,
            r#"{"role":"user","content":[{"type":"input_file","file_data":"data:application/pdf;base64,AA"}]}"#,
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"x"}]}"#,
            r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#,
        ] {
            assert!(response(item).is_some(), "{item}");
        }
        for item in [
            r#"{"role":"user","content":[{"type":"input_image","image_url":"https://example.com/x.png"}]}"#,
            r#"{"role":"user","content":[{"type":"input_image","image_url":"data:x","file_id":"f"}]}"#,
            r#"{"role":"user","content":[{"type":"input_file","file_url":"https://example.com/x.pdf","file_data":"x"}]}"#,
            r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
            r#"{"type":"item_reference","id":"msg_1"}"#,
            r#"{"type":"computer_call_output","output":{}}"#,
        ] {
            assert_eq!(response(item), None, "{item}");
        }
    }

    #[test]
    fn no_count_is_requested_that_would_leave_input_out() {
        let search = r#""tools":[{"type":"web_search_20250305","name":"web_search","max_uses":1}]"#;
        for more in [search, r#""a_field_of_tomorrow":1"#, r#""output_format":{}"#] {
            let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[],{more}}}"#);
            assert_eq!(of_messages(body.as_bytes()), None, "{more}");
        }
        let search = r#""tools":[{"type":"web_search"}],"max_tool_calls":2"#;
        for more in [search, r#""a_field_of_tomorrow":1"#] {
            let body = format!(r#"{{"model":"m","input":"hi",{more}}}"#);
            assert_eq!(of_responses(body.as_bytes()), None, "{more}");
        }
        for own in [r#"{"name":"f","input_schema":{}}"#, r#"{"type":"bash_20250124","name":"bash"}"#] {
            let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[],"tools":[{own}]}}"#);
            assert!(of_messages(body.as_bytes()).is_some(), "{own}");
        }
    }
}
