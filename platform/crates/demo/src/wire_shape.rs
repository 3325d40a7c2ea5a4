//! The wire format of an API, as the functions that write an answer in it.

use axum::http::StatusCode;
use serde_json::Value;

use super::script::AnswerScript;

/// The wire format of one API.
pub struct WireShape {
    pub whole: fn(&AnswerScript) -> Value,
    /// The server-sent events of a stream, each with its number of output tokens.
    pub frames: fn(&AnswerScript) -> Vec<(String, u64)>,
    pub error: fn(StatusCode) -> Value,
    /// The event that ends a stream when the model is overloaded.
    pub overloaded: &'static str,
}
