//! Reading a call's body for what it can cost. The body itself is forwarded as it came.

pub mod chat;
mod json;
pub mod messages;

use serde_json::{Map, Value};

use crate::quota::Demand;

/// A body, understood as far as money and streaming are concerned.
#[derive(Clone, Debug)]
pub struct Asked {
    pub demand: Demand,
    pub stream: bool,
    /// It is a stream that must be asked for its usage, because the client did not.
    pub add_usage: bool,
}

/// Why a body cannot be forwarded. `field` is the name in the body; the message is for whoever wrote the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unacceptable {
    pub field: Option<&'static str>,
    pub message: String,
}

impl Unacceptable {
    fn new(field: &'static str, why: &str) -> Self {
        Self { field: Some(field), message: format!("{field}: {why}") }
    }

    /// Of a field whose price is not known here.
    fn unpriced(field: &'static str, why: &str) -> Self {
        Self::new(field, &format!("{why} Berth's quota proxy forwards only calls whose cost it can bound beforehand."))
    }
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Unacceptable> {
    json::object(body).map_err(|why| Unacceptable {
        field: None,
        message: format!("The request body is not JSON that can be read: {why}"),
    })
}

fn model(body: &Map<String, Value>) -> Result<String, Unacceptable> {
    match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() && model.len() <= 200 => Ok(model.clone()),
        Some(_) => Err(Unacceptable::new("model", "must be the name of a model.")),
        None => Err(Unacceptable::new("model", "Field required")),
    }
}

fn stream(body: &Map<String, Value>) -> Result<bool, Unacceptable> {
    match body.get("stream") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(stream)) => Ok(*stream),
        Some(_) => Err(Unacceptable::new("stream", "must be true or false.")),
    }
}

/// A whole number that is not negative; absent and `null` are the same.
fn count(body: &Map<String, Value>, field: &'static str) -> Result<Option<u64>, Unacceptable> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| Unacceptable::new(field, "must be a whole number, 0 or more."))
        }
    }
}

fn is_set(body: &Map<String, Value>, field: &str) -> bool {
    body.get(field).is_some_and(|value| !value.is_null())
}

/// Whether `content` (a string, or an array of blocks) consists of text in blocks of the types `textual` names, whose
/// tokens the bytes of the body bound. A block's own `content` is looked into as well.
fn is_text(content: Option<&Value>, textual: &[&str]) -> bool {
    match content {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(Value::Array(blocks)) => blocks.iter().all(|block| {
            let named = block.get("type").and_then(Value::as_str).is_some_and(|kind| textual.contains(&kind));
            named && is_text(block.get("content"), textual)
        }),
        Some(_) => false,
    }
}
