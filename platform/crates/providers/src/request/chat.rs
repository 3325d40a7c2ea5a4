//! The cost bound of an OpenAI chat completions request.

use super::json::{JsonObject, JsonValue};
use super::{ContentKind, ModelRequest, RequestError, count, is_text, model, parse, service_tier, size, stream};
use crate::splice;
use crate::{CacheWrites, Demand, Provider, ServiceTier};

/// See the constant of the same name in `messages.rs`.
const BOUNDED_FIELDS: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "audio",
    "frequency_penalty",
    "presence_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "metadata",
    "modalities",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
    "verbosity",
];

const TEXT_BLOCKS: &[&str] = &["text", "refusal"];

/// Input tokens that the provider adds: its own system prompt, and the frame around tools and formats. Its
/// documentation has no figures; measured ones are below 200.
pub(super) const ADDED_ALWAYS: u64 = 512;
pub(super) const ADDED_WITH_TOOLS_OR_FORMAT: u64 = 1024;

/// The API's own limit on `n`.
const MAX_ANSWERS: u64 = 128;

/// Parses a body of `POST /v1/chat/completions`. `default_tier` applies to a request without `service_tier`.
///
/// # Errors
/// When the request cannot be forwarded; the error names the field.
pub fn read(bytes: &[u8], default_tier: ServiceTier) -> Result<ModelRequest, RequestError> {
    let body = parse(bytes)?;
    refuse_unpriced(&body)?;
    let has_more = ["tools", "functions", "response_format"].iter().any(|field| body.has(field));
    let added = ADDED_ALWAYS + if has_more { ADDED_WITH_TOOLS_OR_FORMAT } else { 0 };
    let answers = count(&body, "n")?.unwrap_or(1);
    if !(1..=MAX_ANSWERS).contains(&answers) {
        return Err(RequestError::new("n", "must be from 1 to 128."));
    }
    let demand = Demand {
        provider: Provider::OPENAI,
        model: model(&body)?,
        service: service_tier(&body, default_tier)?,
        input: content_kind(&body).bound(bytes, added),
        cache_writes: cache_writes(&body),
        // The API accepts both names. Which one takes precedence differs by model, so the larger one is the bound.
        max_output_tokens: count(&body, "max_completion_tokens")?.max(count(&body, "max_tokens")?),
        answers,
        // Rejected tokens of a prediction are billed as output, in addition to the answer. The bytes of the body bound
        // the tokens of the prediction.
        extra_output_tokens: if body.has("prediction") { size(bytes) } else { 0 },
        web_searches: 0,
        may_be_us: false,
        // The response contains neither the reasoning nor the rejected part of a prediction.
        may_hide_output: !body.get("reasoning_effort").is_some_and(|effort| effort.is_str("none"))
            || body.has("prediction"),
    };
    let stream = stream(&body)?;
    let body_with_usage = if stream { body_with_usage(bytes, &body) } else { None };
    Ok(ModelRequest { demand, stream, body_with_usage })
}

/// The body of a stream with `include_usage` set. `None` where the client has set it. Without it the API ends a stream
/// without figures.
pub(super) fn body_with_usage(bytes: &[u8], body: &JsonObject<'_>) -> Option<Vec<u8>> {
    let asks = matches!(
        body.get("stream_options").and_then(|options| options.get("include_usage")),
        Some(JsonValue::Bool(true))
    );
    match body.get("stream_options") {
        _ if asks => None,
        // The usual case, without a scan of the body.
        None => Some(splice::with_last_member(bytes, r#""stream_options":{"include_usage":true}"#)),
        Some(_) => splice::with_include_usage(bytes),
    }
}

/// The cache write price that bounds the input. Newer models write to the cache without a request to do so.
pub(super) fn cache_writes(body: &JsonObject<'_>) -> CacheWrites {
    let long = body.has("prompt_cache_options") || body.has("prompt_cache_retention");
    if long { CacheWrites::Long } else { CacheWrites::Short }
}

fn refuse_unpriced(body: &JsonObject<'_>) -> Result<(), RequestError> {
    for (field, why) in [
        ("web_search_options", "these searches have no limit. The Responses API's web_search has one."),
        ("audio", "sound is charged by its own tokens."),
        ("moderation", "its charge is not known."),
    ] {
        if body.has(field) {
            return Err(RequestError::unpriced(field, why));
        }
    }
    if body.non_null("store").is_some_and(|store| !matches!(store, JsonValue::Bool(false))) {
        let why = "only false is offered. What is stored is kept at the provider under a key that all here share.";
        return Err(RequestError::new("store", why));
    }
    let texts =
        |modalities: &JsonValue<'_>| modalities.as_array().is_some_and(|all| all.iter().all(|one| one.is_str("text")));
    if body.non_null("modalities").is_some_and(|modalities| !texts(modalities)) {
        return Err(RequestError::unpriced("modalities", "only text is offered."));
    }
    let runs_at_client =
        |tool: &JsonValue<'_>| tool.get("type").is_some_and(|kind| kind.is_str("function") || kind.is_str("custom"));
    if body
        .non_null("tools")
        .is_some_and(|tools| !tools.as_array().is_some_and(|tools| tools.iter().all(runs_at_client)))
    {
        return Err(RequestError::unpriced(
            "tools",
            "a tool that runs at the provider is charged by use. Functions that you run yourself work.",
        ));
    }
    check_stream_options(body)
}

/// Refuses `stream_options` to which `include_usage` cannot be added.
///
/// # Errors
/// Names `stream_options`.
pub(super) fn check_stream_options(body: &JsonObject<'_>) -> Result<(), RequestError> {
    match body.non_null("stream_options") {
        None => Ok(()),
        Some(options @ JsonValue::JsonObject(_)) => match options.get("include_usage") {
            None | Some(JsonValue::Null | JsonValue::Bool(_)) => Ok(()),
            Some(_) => Err(RequestError::new("stream_options", "include_usage must be true or false.")),
        },
        Some(_) => Err(RequestError::new("stream_options", "must be an object.")),
    }
}

fn content_kind(body: &JsonObject<'_>) -> ContentKind {
    let has_no_audio = |message: &JsonValue<'_>| message.get("audio").is_none_or(JsonValue::is_null);
    let messages_are_text = match body.get("messages") {
        Some(JsonValue::Array(messages)) => {
            messages.iter().all(|message| is_text(message.get("content"), TEXT_BLOCKS) && has_no_audio(message))
        }
        _ => true,
    };
    ContentKind::text_if(messages_are_text && body.names().all(|field| BOUNDED_FIELDS.contains(&field)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputBound, TierChoice};

    fn read_with(more: &str) -> Result<Demand, RequestError> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        read(body.as_bytes(), ServiceTier::Flex).map(|asked| asked.demand)
    }

    #[test]
    fn each_field_changes_the_demand_as_it_is_priced() {
        let plain = read_with("").unwrap();
        assert_eq!((plain.max_output_tokens, plain.answers, plain.cache_writes), (None, 1, CacheWrites::Short));
        assert_eq!(read_with(r#","max_tokens":5,"max_completion_tokens":7"#).unwrap().max_output_tokens, Some(7));
        assert_eq!(read_with(r#","n":3"#).unwrap().answers, 3);
        assert_eq!(read_with(r#","prompt_cache_retention":"24h""#).unwrap().cache_writes, CacheWrites::Long);
        assert!(read_with(r#","prediction":{"type":"content","content":"abc"}"#).unwrap().extra_output_tokens > 50);
        let open = read_with(r#","conversation":"c""#).unwrap();
        assert!(matches!(open.input, InputBound::WholeModel { at_least: 512.. }));
        assert!(plain.may_hide_output);
        for (more, service) in [
            ("", TierChoice::Auto(ServiceTier::Flex)),
            (r#","service_tier":"auto""#, TierChoice::Auto(ServiceTier::Flex)),
            (r#","service_tier":"default""#, TierChoice::Named(ServiceTier::Standard)),
            (r#","service_tier":"fast""#, TierChoice::Named(ServiceTier::Priority)),
            (r#","service_tier":"ultrafast""#, TierChoice::Named(ServiceTier::Ultrafast)),
        ] {
            assert_eq!(read_with(more).unwrap().service, service, "{more}");
        }
        assert!(!read_with(r#","reasoning_effort":"none""#).unwrap().may_hide_output);
        assert!(read_with(r#","reasoning_effort":"none","prediction":{"content":"a"}"#).unwrap().may_hide_output);
    }

    #[test]
    fn images_are_bounded_by_the_context_window() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"},
            {"type":"image_url","image_url":{"url":"https://example.com/x.png"}}]}]}"#;
        assert!(matches!(read(body, ServiceTier::Flex).unwrap().demand.input, InputBound::WholeModel { .. }));
    }

    #[test]
    fn fields_without_a_price_are_refused_by_name() {
        for (more, field) in [
            (r#","service_tier":"scale""#, "service_tier"),
            (r#","web_search_options":{}"#, "web_search_options"),
            (r#","modalities":["text","audio"]"#, "modalities"),
            (r#","tools":[{"type":"web_search"}]"#, "tools"),
            (r#","store":true"#, "store"),
            (r#","n":0"#, "n"),
            (r#","n":1.5"#, "n"),
            (r#","stream":"yes""#, "stream"),
            (r#","stream_options":{"include_usage":1}"#, "stream_options"),
        ] {
            assert_eq!(read_with(more).unwrap_err().field, Some(field), "{more}");
        }
        assert!(read_with(r#","store":false"#).is_ok());
        assert!(read_with(r#","service_tier":"auto","tools":[{"type":"function","function":{"name":"f"}}]"#).is_ok());
    }

    #[test]
    fn a_stream_asks_for_its_usage_unless_the_client_did() {
        let asking = |more: &str| {
            let body = format!(r#"{{"model":"m","messages":[]{more}}} "#);
            read(body.as_bytes(), ServiceTier::Standard)
                .unwrap()
                .body_with_usage
                .map(|body| String::from_utf8(body).unwrap())
        };
        for (more, after) in [
            (r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}} "#),
            (
                r#","stream_options":{"include_usage":false},"stream":true"#,
                r#","stream_options":{"include_usage":true},"stream":true} "#,
            ),
            (r#","stream":true,"stream_options":null"#, r#","stream":true,"stream_options":{"include_usage":true}} "#),
        ] {
            assert_eq!(asking(more).unwrap(), format!(r#"{{"model":"m","messages":[]{after}"#));
        }
        assert_eq!(asking(r#","stream":true,"stream_options":{"include_usage":true}"#), None);
        assert_eq!(asking(""), None);
    }
}
