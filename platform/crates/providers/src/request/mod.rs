//! Request body parsers: each computes the upper bound of a call's cost. The body itself is forwarded byte for byte.

mod by_api;
pub mod chat;
pub mod embeddings;
mod json;
pub mod messages;
pub mod own_key;
pub mod responses;
pub mod shortening;
pub mod token_count;

use json::{JsonObject, JsonValue};

use crate::{Demand, InputBound, ServiceTier, TierChoice};

/// A parsed request to a model, under one of the platform's keys.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    pub demand: Demand,
    pub stream: bool,
    /// The body to send instead, which also requests usage figures. Present when the client wants a stream without
    /// them: [`UsageFilter`](crate::UsageFilter) then removes them from the response.
    pub body_with_usage: Option<Vec<u8>>,
}

/// A parsed request to a model, under the caller's own key. Its cost is not bounded.
#[derive(Clone, Debug)]
pub struct OwnKeyRequest {
    pub model: String,
    pub stream: bool,
    /// As in [`ModelRequest`].
    pub body_with_usage: Option<Vec<u8>>,
}

/// Why a request cannot be forwarded, in words for the author of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The member of the body that is at fault, if any.
    pub field: Option<&'static str>,
    pub message: String,
}

impl RequestError {
    fn new(field: &'static str, why: &str) -> Self {
        Self { field: Some(field), message: format!("{field}: {why}") }
    }

    /// For a field that makes the cost unbounded.
    fn unpriced(field: &'static str, why: &str) -> Self {
        Self::new(field, &format!("{why} Berth's quota proxy forwards only calls whose cost it can bound beforehand."))
    }
}

fn parse(body: &[u8]) -> Result<JsonObject<'_>, RequestError> {
    json::object(body).map_err(|why| RequestError {
        field: None,
        message: format!("The request body is not JSON that can be read: {why}"),
    })
}

fn model(body: &JsonObject<'_>) -> Result<String, RequestError> {
    match body.get("model") {
        // The limit keeps receipts and logs small; no provider's names are nearly as long.
        Some(JsonValue::Text(model)) if !model.is_empty() && model.len() <= 200 => Ok(model.to_string()),
        Some(_) => Err(RequestError::new("model", "must be the name of a model.")),
        None => Err(RequestError::new("model", "Field required")),
    }
}

/// The definitions of the tools that the model may use.
fn tools<'a, 'b>(body: &'a JsonObject<'b>) -> Result<&'a [JsonValue<'b>], RequestError> {
    match body.non_null("tools") {
        None => Ok(&[]),
        Some(tools) => tools.as_array().ok_or_else(|| RequestError::new("tools", "must be an array.")),
    }
}

/// The cost of the tools and output formats of a request.
struct ToolDemand {
    /// Input tokens beyond the bytes of the body: descriptions that the provider adds, and its fixed overhead.
    added_tokens: u64,
    web_searches: u64,
}

fn stream(body: &JsonObject<'_>) -> Result<bool, RequestError> {
    match body.non_null("stream") {
        None => Ok(false),
        Some(JsonValue::Bool(stream)) => Ok(*stream),
        Some(_) => Err(RequestError::new("stream", "must be true or false.")),
    }
}

/// A non-negative integer. A missing member and `null` both give `None`.
fn count(body: &JsonObject<'_>, field: &'static str) -> Result<Option<u64>, RequestError> {
    match body.non_null(field) {
        None => Ok(None),
        Some(JsonValue::Count(count)) => Ok(Some(*count)),
        Some(_) => Err(RequestError::new(field, "must be a whole number, 0 or more.")),
    }
}

/// Parses OpenAI's `service_tier`. `default_tier` is the tier of the operator's project for requests without one.
fn service_tier(body: &JsonObject<'_>, default_tier: ServiceTier) -> Result<TierChoice, RequestError> {
    let named = match body.non_null("service_tier") {
        None => "auto",
        Some(tier) => tier.as_str().unwrap_or_default(),
    };
    match (named, ServiceTier::of_openai(named)) {
        ("auto", _) => Ok(TierChoice::Auto(default_tier)),
        // An allow list, because `of_openai` also accepts tiers that occur only in responses.
        ("default" | "flex" | "priority" | "fast" | "ultrafast", Some(tier)) => Ok(TierChoice::Named(tier)),
        _ => Err(RequestError::unpriced(
            "service_tier",
            "only auto, default, flex, priority, fast or ultrafast is offered.",
        )),
    }
}

/// The kind of a request's content, which determines how its input can be bounded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ContentKind {
    /// Text in the body itself.
    Text,
    /// Also images, documents, references, search results, or unknown fields.
    Unbounded,
}

impl ContentKind {
    fn text_if(is_text: bool) -> Self {
        if is_text { Self::Text } else { Self::Unbounded }
    }

    /// The bound of the input of a body of `bytes`, with `added` tokens that the provider adds.
    fn bound(self, bytes: &[u8], added: u64) -> InputBound {
        // No tokenizer produces more tokens than bytes: a token stands for at least one byte of UTF-8, and JSON only
        // adds bytes.
        let tokens = added.saturating_add(size(bytes));
        match self {
            Self::Text => InputBound::Tokens(tokens),
            Self::Unbounded => InputBound::WholeModel { at_least: tokens },
        }
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX / 2)
}

/// Whether `content` (a string, or an array of blocks) consists of blocks of the types in `text_blocks`, so that its
/// bytes bound its tokens. Recurses into the `content` of a block.
fn is_text(content: Option<&JsonValue<'_>>, text_blocks: &[&str]) -> bool {
    match content {
        None | Some(JsonValue::Null | JsonValue::Text(_) | JsonValue::LongText(_)) => true,
        Some(JsonValue::Array(blocks)) => blocks.iter().all(|block| {
            let is_known =
                block.get("type").and_then(JsonValue::as_str).is_some_and(|kind| text_blocks.contains(&kind));
            is_known && is_text(block.get("content"), text_blocks)
        }),
        Some(_) => false,
    }
}
