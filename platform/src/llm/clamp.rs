//! Clamping: a call opts in, by a request header, to a lower output limit instead of a refusal; a response header
//! reports the resulting limit. Both headers are part of the instance contract.

use axum::http::{HeaderMap, HeaderValue};
use berth_providers::Api;
use berth_providers::request::RequestError;
use bytes::Bytes;

/// The request header. It names the limit that may be lowered until the call fits into the remaining budget.
const CLAMP: &str = "x-berth-clamp";
/// The only limit that can be lowered: `max_tokens`, under the provider's own name for it.
const MAX_TOKENS: &str = "max-tokens";
/// The response header with the lowered limit, in tokens.
const LOWERED_TO: &str = "x-berth-max-tokens";

/// Whether a call permits a lower output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    Off,
    /// The output limit may be lowered.
    MaxTokens,
}

/// Reads the request header.
///
/// # Errors
/// When the header names another limit.
pub fn requested(headers: &HeaderMap) -> Result<Clamp, RequestError> {
    match headers.get(CLAMP) {
        None => Ok(Clamp::Off),
        Some(limit) if limit == MAX_TOKENS => Ok(Clamp::MaxTokens),
        // Refused rather than ignored: the caller relies on the limit it names.
        Some(_) => {
            let message = format!("{CLAMP}: only {MAX_TOKENS} can be lowered; leave the header out for none.");
            Err(RequestError { field: None, message })
        }
    }
}

/// `body` with its output limit lowered to `tokens`, and otherwise unchanged.
///
/// # Errors
/// When the body cannot be edited. Malformed JSON was refused before.
pub fn body(api: Api, body: &[u8], tokens: u64) -> Result<Bytes, RequestError> {
    let shortened = api.shortened(body, tokens).map(Bytes::from);
    shortened.ok_or_else(|| RequestError {
        field: None,
        message: format!("{CLAMP}: this body cannot be changed; send a lower max_tokens."),
    })
}

/// Adds the response header, if the limit was lowered.
pub fn add_header(headers: &mut HeaderMap, lowered_to: Option<u64>) {
    if let Some(tokens) = lowered_to {
        headers.insert(LOWERED_TO, HeaderValue::from(tokens));
    }
}
