//! The wish of a call to get a shorter answer rather than none: a header of the request that says so, and one of the
//! answer that says how short it had to be. The words are part of the instance contract.

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;

use berth_providers::Api;
use berth_providers::request::RequestError;

/// Says what may be lowered for the call to fit into what is left.
const CLAMP: &str = "x-berth-clamp";
/// The one thing that may be: `max_tokens`, or what the provider calls it.
const MAX_TOKENS: &str = "max-tokens";
/// To how many tokens it was lowered.
const LOWERED_TO: &str = "x-berth-max-tokens";

/// Whether a call with these headers asks for a shorter answer where its own does not fit.
///
/// # Errors
/// When it asks for something else to be lowered.
pub fn is_asked_for(headers: &HeaderMap) -> Result<bool, RequestError> {
    match headers.get(CLAMP) {
        None => Ok(false),
        Some(what) if what == MAX_TOKENS => Ok(true),
        Some(_) => {
            let message = format!("{CLAMP}: only {MAX_TOKENS} can be lowered; leave the header out for none.");
            Err(RequestError { field: None, message })
        }
    }
}

/// `body` asking for answers of at most `tokens`, and else as it came.
///
/// # Errors
/// When its members cannot be told apart; what is no JSON was refused before.
pub fn body(api: Api, body: &[u8], tokens: u64) -> Result<Bytes, RequestError> {
    let shortened = api.shortened(body, tokens).map(Bytes::from);
    shortened.ok_or_else(|| RequestError {
        field: None,
        message: format!("{CLAMP}: this body cannot be changed; send a lower max_tokens."),
    })
}

/// Tells who made the call how short its answer had to be, if it had to.
pub fn say(headers: &mut HeaderMap, lowered_to: Option<u64>) {
    if let Some(tokens) = lowered_to {
        headers.insert(LOWERED_TO, HeaderValue::from(tokens));
    }
}
