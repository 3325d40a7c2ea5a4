//! The proxy's errors, as responses in each provider's wire format: official SDKs then raise the right exception, and
//! retry only when a retry can help.
//!
//! Both SDKs retry 408, 409, 429 and 5xx twice unless `x-should-retry` is `false`, and Anthropic's sleeps for as long
//! as `retry-after` says. So the response for a spent allowance has `x-should-retry: false` and no `retry-after`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use berth_providers::WireFormat;
use berth_providers::request::RequestError;
use serde_json::json;
use uuid::Uuid;

use crate::instance_token::TokenError;
use crate::instances::Wish;
use crate::quota::{NoBound, Refusal, Span, Tier, dollars};

/// The reason why a call ends at the proxy.
#[derive(Debug)]
pub enum ProxyError {
    BadToken,
    /// The instance is suspended or removed.
    MayNotCall {
        wish: Wish,
    },
    /// The instance has too many requests in flight, or all bodies together take too much memory.
    Busy,
    NoSuchPath {
        path: String,
    },
    BodyTooLarge,
    /// The body did not arrive whole.
    BodyBroken,
    InvalidRequest(RequestError),
    Refused(Refusal),
    /// The account's own key for this provider cannot be decrypted any more, and no other key may take its place.
    OwnKeyUnreadable,
    /// Refused even with the shortest useful answer.
    RefusedAtAnyLength(Refusal),
    UpstreamUnreachable,
    UpstreamTimeout,
}

impl From<TokenError> for ProxyError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid => Self::BadToken,
            TokenError::Closed { wish } => Self::MayNotCall { wish },
        }
    }
}

/// An error response in terms of both wire formats.
struct ErrorShape {
    status: StatusCode,
    /// Anthropic's `error.type`.
    anthropic: &'static str,
    /// Anthropic's `error.details.error_code`.
    anthropic_code: Option<&'static str>,
    /// OpenAI's `error.type`.
    openai: &'static str,
    /// OpenAI's `error.code`.
    openai_code: Option<&'static str>,
    /// OpenAI's `error.param`.
    field: Option<&'static str>,
    message: String,
    retry_after: Option<Duration>,
    never_retry: bool,
}

impl ErrorShape {
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

impl ProxyError {
    /// The error response in a wire format.
    #[must_use]
    pub fn respond(&self, format: WireFormat, request_id: Uuid) -> Response {
        let shape = self.shape();
        let request_id = format!("req_{}", request_id.simple());
        let (body, id_header) = match format {
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
            // Anthropic's SDK would sleep for all of a longer time, and the program with it.
            headers.insert("retry-after", HeaderValue::from(wait.as_secs().clamp(1, 60)));
        }
        response
    }

    fn shape(&self) -> ErrorShape {
        const BAD: &str = "invalid_request_error";
        match self {
            Self::BadToken => ErrorShape {
                openai_code: Some("invalid_api_key"),
                ..ErrorShape::new(
                    StatusCode::UNAUTHORIZED,
                    "authentication_error",
                    BAD,
                    "This is not the token of the instance that called. Use the key from the instance's environment, \
                     from inside that instance."
                        .into(),
                )
            },
            Self::MayNotCall { wish } => ErrorShape {
                openai_code: Some("access_terminated"),
                ..ErrorShape::new(
                    StatusCode::FORBIDDEN,
                    "permission_error",
                    BAD,
                    match wish {
                        Wish::Removed => "The operator removed this instance, so it makes no AI calls.".into(),
                        Wish::Leaving => {
                            "This account is scheduled for deletion, so its instance makes no AI calls.".into()
                        }
                        _ => "This account is suspended, so its instance makes no AI calls. Ask the operator of this \
                              server why."
                            .into(),
                    },
                )
            },
            Self::Busy => ErrorShape {
                openai_code: Some("rate_limit_exceeded"),
                retry_after: Some(Duration::from_secs(1)),
                ..ErrorShape::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    "rate_limit_error",
                    "Too many requests, or too large ones, are being taken in at once. Wait for one to end.".into(),
                )
            },
            Self::NoSuchPath { path } => ErrorShape {
                openai_code: Some("unknown_url"),
                ..ErrorShape::new(
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
            Self::BodyTooLarge => ErrorShape::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                BAD,
                "The request body is larger than 32 MB.".into(),
            ),
            Self::BodyBroken => ErrorShape::new(
                StatusCode::BAD_REQUEST,
                BAD,
                BAD,
                "The request body did not arrive whole within a minute.".into(),
            ),
            Self::InvalidRequest(why) => ErrorShape {
                field: why.field,
                ..ErrorShape::new(StatusCode::BAD_REQUEST, BAD, BAD, why.message.clone())
            },
            Self::Refused(refusal) => refused(
                refusal,
                "A lower max_tokens may fit; with the header x-berth-clamp: max-tokens it is lowered to what does.",
            ),
            Self::RefusedAtAnyLength(refusal) => {
                refused(refusal, "The shortest answer that is of any use would not fit either.")
            }
            Self::OwnKeyUnreadable => ErrorShape::new(
                StatusCode::FORBIDDEN,
                "permission_error",
                BAD,
                "Your own key for this provider cannot be read any more, so the call was not made. On Berth's page of \
                 your own keys, put it in again or remove it."
                    .into(),
            ),
            Self::UpstreamUnreachable => ErrorShape::new(
                StatusCode::BAD_GATEWAY,
                "api_error",
                "server_error",
                "The model provider could not be reached. Please try again.".into(),
            ),
            Self::UpstreamTimeout => ErrorShape::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout_error",
                "server_error",
                "The model provider did not answer in time.".into(),
            ),
        }
    }
}

/// The response to a refusal. `advice`: a sentence for a call that would fit with a shorter answer.
fn refused(refusal: &Refusal, advice: &str) -> ErrorShape {
    match refusal {
        Refusal::UnknownModel { model } => ErrorShape {
            openai_code: Some("model_not_found"),
            field: Some("model"),
            ..ErrorShape::new(
                StatusCode::NOT_FOUND,
                "not_found_error",
                "invalid_request_error",
                format!("model: {model} is not offered here, because its price is not known to Berth."),
            )
        },
        Refusal::NoBound { model, why } => {
            let (field, message) = no_bound(model, *why);
            ErrorShape {
                field: Some(field),
                ..ErrorShape::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request_error", message)
            }
        }
        Refusal::OverAllowance { what, left_nanodollars, held_nanodollars, needed_nanodollars, resets_on } => {
            let shortage = AllowanceShortage {
                span: *what,
                left: *left_nanodollars,
                held: *held_nanodollars,
                needed: *needed_nanodollars,
                resets_on,
            };
            let advice = if refusal.leaves_room() { format!(" {advice}") } else { String::new() };
            spent(shortage.message() + &advice)
        }
        Refusal::TooManyAtOnce { limit, retry_after } => ErrorShape {
            openai_code: Some("rate_limit_exceeded"),
            retry_after: Some(*retry_after),
            ..ErrorShape::new(
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
            ErrorShape {
                openai_code: Some("server_is_overloaded"),
                retry_after: Some(Duration::from_secs(2)),
                ..ErrorShape::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "overloaded_error",
                    "server_error",
                    "Berth cannot check the budget just now, so it makes no AI calls. Please try again.".into(),
                )
            }
        }
    }
}

/// The response for a spent allowance.
fn spent(message: String) -> ErrorShape {
    ErrorShape {
        anthropic_code: Some("enforced_spend_limit_reached"),
        openai_code: Some("project_spend_limit_exceeded"),
        // The allowance comes back at the end of a day or a month: a retry within seconds would only delay the error.
        never_retry: true,
        ..ErrorShape::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "insufficient_quota", message)
    }
}

/// The response for a rate limit.
fn too_fast(wait: Duration, sentence: String) -> ErrorShape {
    let message = format!("{sentence} Wait {} s.", wait.as_secs().saturating_add(1));
    ErrorShape {
        openai_code: Some("rate_limit_exceeded"),
        // Rounded up to whole seconds, because a retry within the last second would be refused again.
        retry_after: Some(wait.saturating_add(Duration::from_millis(999))),
        ..ErrorShape::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_error", message)
    }
}

/// The field at fault, and advice.
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

/// An allowance that does not cover a call. Amounts are in nano-dollars.
struct AllowanceShortage<'a> {
    span: Span,
    left: i64,
    /// Held for other calls in flight.
    held: i64,
    needed: i64,
    resets_on: &'a str,
}

impl AllowanceShortage<'_> {
    fn message(&self) -> String {
        let Self { span, left, held, needed, resets_on } = self;
        let held = if *held > 0 {
            format!(" ({} more is held for calls in flight, and part of it comes back)", dollars(*held))
        } else {
            String::new()
        };
        format!(
            "Your AI allowance of this {} does not cover this call: it could cost up to {}, and {} is left{held}. The \
             allowance is whole again on {resets_on} (UTC). A call under a key of your own needs none of it.",
            span.word(),
            dollars(*needed),
            dollars(*left),
        )
    }
}
