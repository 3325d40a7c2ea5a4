//! Refusals in each provider's own shape, so that official SDKs raise the right error and retry only when it helps.
//!
//! Both SDKs retry 408, 409, 429 and 5xx twice unless `x-should-retry` says no; a long `retry-after` makes Anthropic's
//! sleep that long. So a spent allowance says `x-should-retry: false` and names no time to wait.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use crate::config::WireFormat;
use crate::instances::Wish;
use crate::quota::{NoBound, Refusal, Span, Tier, dollars};
use berth_providers::request::RequestError;

/// Why a call ends here.
#[derive(Debug)]
pub enum Problem {
    BadToken,
    /// The instance is suspended or removed.
    MayNotCall {
        wish: Wish,
    },
    /// Too much is in the door already.
    Busy,
    NoSuchPath {
        path: String,
    },
    BodyTooLarge,
    /// It did not come to its end.
    BodyBroken,
    Unacceptable(RequestError),
    Refused(Refusal),
    /// The account's own key for this provider does not open any more, and no other may take its place.
    OwnKeyUnreadable,
    /// Not even with the shortest answer that is of use.
    RefusedAtAnyLength(Refusal),
    UpstreamUnreachable,
    UpstreamTimeout,
}

/// A refusal in words that each provider has a field for.
struct Shape {
    status: StatusCode,
    anthropic: &'static str,
    anthropic_code: Option<&'static str>,
    openai: &'static str,
    openai_code: Option<&'static str>,
    field: Option<&'static str>,
    message: String,
    retry_after: Option<Duration>,
    never_retry: bool,
}

impl Shape {
    fn new(status: StatusCode, anthropic: &'static str, openai: &'static str, message: String) -> Self {
        Self {
            status,
            anthropic,
            anthropic_code: None,
            openai,
            openai_code: None,
            field: None,
            message,
            retry_after: None,
            never_retry: false,
        }
    }
}

impl Problem {
    /// The answer in the shape of who `speaks` so, under `request_id`.
    #[must_use]
    pub fn respond(&self, speaks: WireFormat, request_id: Uuid) -> Response {
        let shape = self.shape();
        let request_id = format!("req_{}", request_id.simple());
        let (body, id_header) = match speaks {
            WireFormat::Anthropic => {
                let mut error = json!({ "type": shape.anthropic, "message": shape.message });
                if let Some(code) = shape.anthropic_code {
                    error["details"] = json!({ "error_code": code });
                }
                (json!({ "type": "error", "error": error, "request_id": request_id }), "request-id")
            }
            WireFormat::Openai => {
                let (kind, code, param) = (shape.openai, shape.openai_code, shape.field);
                let error = json!({ "message": shape.message, "type": kind, "param": param, "code": code });
                (json!({ "error": error }), "x-request-id")
            }
        };
        let mut response = (shape.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert(id_header, id);
        }
        if shape.never_retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else if let Some(wait) = shape.retry_after {
            headers.insert("retry-after", HeaderValue::from(wait.as_secs().clamp(1, 60)));
        }
        response
    }

    fn shape(&self) -> Shape {
        const BAD: &str = "invalid_request_error";
        match self {
            Self::BadToken => Shape {
                openai_code: Some("invalid_api_key"),
                ..Shape::new(
                    StatusCode::UNAUTHORIZED,
                    "authentication_error",
                    BAD,
                    "This is not the token of the instance that called. Use the key from the instance's environment, \
                     from inside that instance."
                        .into(),
                )
            },
            Self::MayNotCall { wish } => Shape {
                openai_code: Some("access_terminated"),
                ..Shape::new(
                    StatusCode::FORBIDDEN,
                    "permission_error",
                    BAD,
                    match wish {
                        Wish::Removed => "The operator removed this instance, so it makes no AI calls.".into(),
                        Wish::Leaving => "This account leaves, so its instance makes no AI calls.".into(),
                        _ => "This account is suspended, so its instance makes no AI calls. Ask the operator of this \
                              server why."
                            .into(),
                    },
                )
            },
            Self::Busy => Shape {
                openai_code: Some("rate_limit_exceeded"),
                retry_after: Some(Duration::from_secs(1)),
                ..Shape::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    "rate_limit_error",
                    "Too many requests, or too large ones, are being taken in at once. Wait for one to end.".into(),
                )
            },
            Self::NoSuchPath { path } => Shape {
                openai_code: Some("unknown_url"),
                ..Shape::new(
                    StatusCode::NOT_FOUND,
                    "not_found_error",
                    BAD,
                    format!(
                        "{path} is not served here. Berth's quota proxy forwards what it can meter: POST \
                         /anthropic/v1/messages and /anthropic/v1/messages/count_tokens, GET /anthropic/v1/models, \
                         POST /openai/v1/chat/completions, /openai/v1/responses and /openai/v1/embeddings, GET \
                         /openai/v1/models; and GET /budget says what is left."
                    ),
                )
            },
            Self::BodyTooLarge => Shape::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                BAD,
                "The request body is larger than 32 MB.".into(),
            ),
            Self::BodyBroken => Shape::new(
                StatusCode::BAD_REQUEST,
                BAD,
                BAD,
                "The request body did not arrive whole within a minute.".into(),
            ),
            Self::Unacceptable(why) => {
                Shape { field: why.field, ..Shape::new(StatusCode::BAD_REQUEST, BAD, BAD, why.message.clone()) }
            }
            Self::Refused(refusal) => refused(
                refusal,
                "A lower max_tokens may fit; with the header x-berth-clamp: max-tokens it is lowered to what does.",
            ),
            Self::RefusedAtAnyLength(refusal) => {
                refused(refusal, "The shortest answer that is of any use would not fit either.")
            }
            Self::OwnKeyUnreadable => Shape::new(
                StatusCode::FORBIDDEN,
                "permission_error",
                BAD,
                "Your own key for this provider cannot be read any more, so the call was not made. On Berth's page of \
                 your own keys, put it in again or remove it."
                    .into(),
            ),
            Self::UpstreamUnreachable => Shape::new(
                StatusCode::BAD_GATEWAY,
                "api_error",
                "server_error",
                "The model provider could not be reached. Please try again.".into(),
            ),
            Self::UpstreamTimeout => Shape::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout_error",
                "server_error",
                "The model provider did not answer in time.".into(),
            ),
        }
    }
}

/// `advice`: what can be done about its size, where something is left.
fn refused(refusal: &Refusal, advice: &str) -> Shape {
    match refusal {
        Refusal::UnknownModel { model } => Shape {
            openai_code: Some("model_not_found"),
            field: Some("model"),
            ..Shape::new(
                StatusCode::NOT_FOUND,
                "not_found_error",
                "invalid_request_error",
                format!("model: {model} is not offered here, because its price is not known to Berth."),
            )
        },
        Refusal::NoBound { model, why } => {
            let (field, message) = no_bound(model, *why);
            Shape {
                field: Some(field),
                ..Shape::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request_error", message)
            }
        }
        Refusal::OverAllowance { what, left_nanodollars, held_nanodollars, needed_nanodollars, resets_on } => Shape {
            anthropic_code: Some("enforced_spend_limit_reached"),
            openai_code: Some("project_spend_limit_exceeded"),
            never_retry: true,
            ..Shape::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "insufficient_quota",
                [
                    over_allowance(*what, (*left_nanodollars, *held_nanodollars), *needed_nanodollars, resets_on),
                    if refusal.leaves_room() { format!(" {advice}") } else { String::new() },
                ]
                .concat(),
            )
        },
        Refusal::TooManyAtOnce { limit, retry_after } => Shape {
            openai_code: Some("rate_limit_exceeded"),
            retry_after: Some(*retry_after),
            ..Shape::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "rate_limit_error",
                format!(
                    "{limit} AI calls are in flight, as many as this account may have at once. Wait for one to end."
                ),
            )
        },
        Refusal::TooManyRequests { limit, retry_after } => {
            too_fast(*retry_after, format!("This account may make {limit} AI calls a minute, and made them."))
        }
        Refusal::TooManyTokens { limit, retry_after } => too_fast(
            *retry_after,
            format!(
                "This account's AI calls may use {limit} tokens a minute, and this one could use more than are left. \
                 A lower max_tokens counts less."
            ),
        ),
        Refusal::Unavailable(error) => {
            tracing::error!(error = ?error, "a call could not be admitted");
            Shape {
                openai_code: Some("server_is_overloaded"),
                retry_after: Some(Duration::from_secs(2)),
                ..Shape::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "overloaded_error",
                    "server_error",
                    "Berth cannot open its books just now, so it makes no calls. Please try again.".into(),
                )
            }
        }
    }
}

fn too_fast(wait: Duration, sentence: String) -> Shape {
    let message = format!("{sentence} Wait {} s.", wait.as_secs().saturating_add(1));
    Shape {
        openai_code: Some("rate_limit_exceeded"),
        // Whole seconds: what is left of one counts.
        retry_after: Some(wait.saturating_add(Duration::from_millis(999))),
        ..Shape::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_error", message)
    }
}

/// The field to blame, and what to do about it.
fn no_bound(model: &str, why: NoBound) -> (&'static str, String) {
    match why {
        NoBound::Size => (
            "max_tokens",
            format!("max_tokens: {model} has no known limits; send text only, and say how long the answer may be."),
        ),
        NoBound::Tier(Tier::Fast) => ("speed", format!("speed: {model} has no known price for fast; leave it out.")),
        NoBound::Tier(tier) => {
            ("service_tier", format!("service_tier: {model} has no known price for {}; leave it out.", tier.as_str()))
        }
        NoBound::WebSearch => (
            "tools",
            format!("tools: what a search of the web costs with {model} is not known to Berth; use another model."),
        ),
    }
}

fn over_allowance(what: Span, (left, held): (i64, i64), needed: i64, resets_on: &str) -> String {
    let held = if held > 0 {
        format!(" ({} more is held for calls in flight, and part of it comes back)", dollars(held))
    } else {
        String::new()
    };
    format!(
        "Your AI allowance of this {} does not cover this call: it could cost up to {}, and {} is left{held}. The \
         allowance is whole again on {resets_on} (UTC). A call under a key of your own needs none of it.",
        what.word(),
        dollars(needed),
        dollars(left),
    )
}
