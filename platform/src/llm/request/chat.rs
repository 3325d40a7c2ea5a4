//! What an OpenAI chat completion can cost.

use serde_json::{Map, Value};

use super::{Asked, Unacceptable, count, is_set, is_text, model, parse, stream};
use crate::quota::{CacheWrites, Demand, InputBound, Provider};

/// See the list of the same name in `messages.rs`.
const KNOWN: &[&str] = &[
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

const TEXTUAL: &[&str] = &["text", "refusal"];

/// Tokens that the provider adds by itself: a system prompt of its own, the frame around tools and formats. It
/// documents no figures; measured ones are below 200.
const ADDED_ALWAYS: u64 = 512;
const ADDED_WITH_TOOLS_OR_FORMAT: u64 = 1024;

/// More answers than this are refused; the API's own limit.
const MOST_ANSWERS: u64 = 128;

/// Reads a body of `POST /v1/chat/completions`.
///
/// # Errors
/// The field that cannot be forwarded, and why.
pub fn read(bytes: &[u8]) -> Result<Asked, Unacceptable> {
    let body = parse(bytes)?;
    refuse_unpriced(&body)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX / 2);
    let has_more = ["tools", "functions", "response_format"].iter().any(|field| is_set(&body, field));
    let added = ADDED_ALWAYS + if has_more { ADDED_WITH_TOOLS_OR_FORMAT } else { 0 };
    let answers = count(&body, "n")?.unwrap_or(1);
    if !(1..=MOST_ANSWERS).contains(&answers) {
        return Err(Unacceptable::new("n", "must be from 1 to 128."));
    }
    // Newer models write to the cache unasked, so the write price bounds the input wherever there is one.
    let long = is_set(&body, "prompt_cache_options") || is_set(&body, "prompt_cache_retention");
    let demand = Demand {
        provider: Provider::Openai,
        model: model(&body)?,
        input: if is_bounded_by_bytes(&body) {
            InputBound::Tokens(added.saturating_add(size))
        } else {
            InputBound::WholeModel { at_least: added.saturating_add(size) }
        },
        cache_writes: if long { CacheWrites::Long } else { CacheWrites::Short },
        max_output_tokens: count(&body, "max_completion_tokens")?.max(count(&body, "max_tokens")?),
        answers,
        // A prediction that the model does not follow is billed as output, on top of the answer.
        extra_output_tokens: if is_set(&body, "prediction") { size } else { 0 },
        may_be_us: false,
        // Reasoning is not shown, nor is what was rejected of a prediction.
        may_hide_output: body.get("reasoning_effort").is_none_or(|effort| effort != "none")
            || is_set(&body, "prediction"),
    };
    let stream = stream(&body)?;
    let asks = body.get("stream_options").and_then(|options| options.get("include_usage")) == Some(&Value::Bool(true));
    Ok(Asked { demand, stream, add_usage: stream && !asks })
}

fn refuse_unpriced(body: &Map<String, Value>) -> Result<(), Unacceptable> {
    for (field, why) in [
        ("web_search_options", "searches are charged one by one."),
        ("audio", "sound is charged by its own tokens."),
        ("moderation", "its charge is not known."),
    ] {
        if is_set(body, field) {
            return Err(Unacceptable::unpriced(field, why));
        }
    }
    if is_set(body, "service_tier") && !["auto", "default"].iter().any(|tier| body["service_tier"] == *tier) {
        return Err(Unacceptable::unpriced("service_tier", "only auto or default is offered."));
    }
    if is_set(body, "store") && body["store"] != false {
        let why = "only false is offered. What is stored is kept at the provider under a key that all here share.";
        return Err(Unacceptable::new("store", why));
    }
    let texts = |modalities: &Value| modalities.as_array().is_some_and(|all| all.iter().all(|one| one == "text"));
    if is_set(body, "modalities") && !texts(&body["modalities"]) {
        return Err(Unacceptable::unpriced("modalities", "only text is offered."));
    }
    let own = |tool: &Value| tool.get("type").is_some_and(|kind| kind == "function" || kind == "custom");
    if is_set(body, "tools") && !body["tools"].as_array().is_some_and(|tools| tools.iter().all(own)) {
        return Err(Unacceptable::unpriced(
            "tools",
            "a tool that runs at the provider is charged by use. Functions that you run yourself work.",
        ));
    }
    match body.get("stream_options") {
        None | Some(Value::Null) => Ok(()),
        Some(options) => match options.get("include_usage") {
            _ if !options.is_object() => Err(Unacceptable::new("stream_options", "must be an object.")),
            None | Some(Value::Null | Value::Bool(_)) => Ok(()),
            Some(_) => Err(Unacceptable::new("stream_options", "include_usage must be true or false.")),
        },
    }
}

fn is_bounded_by_bytes(body: &Map<String, Value>) -> bool {
    let messages_are_text = match body.get("messages") {
        Some(Value::Array(messages)) => messages
            .iter()
            .all(|message| is_text(message.get("content"), TEXTUAL) && message.get("audio").is_none_or(Value::is_null)),
        _ => true,
    };
    messages_are_text && body.keys().all(|field| KNOWN.contains(&field.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(more: &str) -> Result<Demand, Unacceptable> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        read(body.as_bytes()).map(|asked| asked.demand)
    }

    #[test]
    fn what_decides_the_hold() {
        let plain = read_with("").unwrap();
        assert_eq!((plain.max_output_tokens, plain.answers, plain.cache_writes), (None, 1, CacheWrites::Short));
        assert_eq!(read_with(r#","max_tokens":5,"max_completion_tokens":7"#).unwrap().max_output_tokens, Some(7));
        assert_eq!(read_with(r#","n":3"#).unwrap().answers, 3);
        assert_eq!(read_with(r#","prompt_cache_retention":"24h""#).unwrap().cache_writes, CacheWrites::Long);
        assert!(read_with(r#","prediction":{"type":"content","content":"abc"}"#).unwrap().extra_output_tokens > 50);
        let open = read_with(r#","conversation":"c""#).unwrap();
        assert!(matches!(open.input, InputBound::WholeModel { at_least: 512.. }));
        assert!(plain.may_hide_output);
        assert!(!read_with(r#","reasoning_effort":"none""#).unwrap().may_hide_output);
        assert!(read_with(r#","reasoning_effort":"none","prediction":{"content":"a"}"#).unwrap().may_hide_output);
    }

    #[test]
    fn pictures_hold_the_whole_model() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"},
            {"type":"image_url","image_url":{"url":"https://example.com/x.png"}}]}]}"#;
        assert!(matches!(read(body).unwrap().demand.input, InputBound::WholeModel { .. }));
    }

    #[test]
    fn fields_without_a_price_are_refused_by_name() {
        for (more, field) in [
            (r#","service_tier":"priority""#, "service_tier"),
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
}
