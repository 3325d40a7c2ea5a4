//! Reading a call's body for what it can cost. The body itself is forwarded as it came.

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

/// A body, understood as far as money and streaming are concerned.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    pub demand: Demand,
    pub stream: bool,
    /// What goes to the provider in the body's place: it is a stream that must be asked for its usage, because the
    /// client did not. That is then not shown to the client.
    pub body_with_usage: Option<Vec<u8>>,
}

/// A body of a call that nothing is held for.
#[derive(Clone, Debug)]
pub struct OwnKeyRequest {
    pub model: String,
    pub stream: bool,
    /// As of [`Asked`].
    pub body_with_usage: Option<Vec<u8>>,
}

/// Why a body cannot be forwarded. `field` is the name in the body; the message is for whoever wrote the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub field: Option<&'static str>,
    pub message: String,
}

impl RequestError {
    fn new(field: &'static str, why: &str) -> Self {
        Self { field: Some(field), message: format!("{field}: {why}") }
    }

    /// Of a field whose price is not known here.
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
        Some(JsonValue::Text(model)) if !model.is_empty() && model.len() <= 200 => Ok(model.to_string()),
        Some(_) => Err(RequestError::new("model", "must be the name of a model.")),
        None => Err(RequestError::new("model", "Field required")),
    }
}

/// The tools that a body offers the model.
fn tools<'a, 'b>(body: &'a JsonObject<'b>) -> Result<&'a [JsonValue<'b>], RequestError> {
    match body.set("tools") {
        None => Ok(&[]),
        Some(tools) => tools.as_array().ok_or_else(|| RequestError::new("tools", "must be an array.")),
    }
}

fn stream(body: &JsonObject<'_>) -> Result<bool, RequestError> {
    match body.set("stream") {
        None => Ok(false),
        Some(JsonValue::Bool(stream)) => Ok(*stream),
        Some(_) => Err(RequestError::new("stream", "must be true or false.")),
    }
}

/// A whole number that is not negative; absent and `null` are the same.
fn count(body: &JsonObject<'_>, field: &'static str) -> Result<Option<u64>, RequestError> {
    match body.set(field) {
        None => Ok(None),
        Some(JsonValue::Count(count)) => Ok(Some(*count)),
        Some(_) => Err(RequestError::new(field, "must be a whole number, 0 or more.")),
    }
}

/// The tiers that OpenAI may serve a call in. `auto`: the one that the operator's project gives calls which name none.
fn service_tier(body: &JsonObject<'_>, auto: ServiceTier) -> Result<TierChoice, RequestError> {
    let named = match body.set("service_tier") {
        None => "auto",
        Some(tier) => tier.as_str().unwrap_or_default(),
    };
    match (named, ServiceTier::of_openai(named)) {
        ("auto", _) => Ok(TierChoice::Auto(auto)),
        ("default" | "flex" | "priority" | "fast" | "ultrafast", Some(tier)) => Ok(TierChoice::Named(tier)),
        _ => Err(RequestError::unpriced(
            "service_tier",
            "only auto, default, flex, priority, fast or ultrafast is offered.",
        )),
    }
}

/// What `bytes` of a body, and what the provider adds, hold at most: as many tokens as bytes, where all of it is text.
fn input_bound(bytes: &[u8], added: u64, is_bounded_by_bytes: bool) -> InputBound {
    let tokens = added.saturating_add(size(bytes));
    if is_bounded_by_bytes { InputBound::Tokens(tokens) } else { InputBound::WholeModel { at_least: tokens } }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX / 2)
}

/// Whether `content` (a string, or an array of blocks) consists of text in blocks of the types `textual` names, whose
/// tokens the bytes of the body bound. A block's own `content` is looked into as well.
fn is_text(content: Option<&JsonValue<'_>>, textual: &[&str]) -> bool {
    match content {
        None | Some(JsonValue::Null | JsonValue::Text(_) | JsonValue::LongText(_)) => true,
        Some(JsonValue::Array(blocks)) => blocks.iter().all(|block| {
            let named = block.get("type").and_then(JsonValue::as_str).is_some_and(|kind| textual.contains(&kind));
            named && is_text(block.get("content"), textual)
        }),
        Some(_) => false,
    }
}
