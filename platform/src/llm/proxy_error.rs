//! The proxy's errors, as responses in each provider's wire format: official SDKs then raise the right exception, and
//! retry only when a retry can help.
//!
//! Both SDKs retry 408, 409, 429 and 5xx twice unless `x-should-retry` is `false`, and Anthropic's SDK sleeps for the
//! whole `retry-after`. So the response for a spent allowance has `x-should-retry: false` and no `retry-after`.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use berth_providers::WireFormat;
use berth_providers::request::RequestError;
use uuid::Uuid;

use super::error_shape::ErrorShape;
use super::refusal_shape::refusal_shape;
use crate::http::instance_token::TokenError;
use crate::instances::Wish;
use crate::quota::Refusal;

/// Why a call ends at the proxy.
#[derive(Debug)]
pub enum ProxyError {
    BadToken,
    /// The instance is suspended or removed.
    MayNotCall {
        wish: Wish,
    },
    /// The instance has too many requests in flight, or all bodies together exceed the memory limit.
    Busy,
    NoSuchPath {
        path: String,
    },
    BodyTooLarge,
    /// The body was incomplete or too slow.
    BodyBroken,
    InvalidRequest(RequestError),
    Refused(Refusal),
    /// The account's own key for this provider cannot be decrypted any more, and no other key may replace it.
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

impl ProxyError {
    /// The error response in a wire format.
    #[must_use]
    pub fn respond(&self, format: WireFormat, request_id: Uuid) -> Response {
        self.shape().respond(format, request_id)
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
            Self::MayNotCall { wish } => closed(*wish),
            // A short wait, because a slot is free as soon as any call ends.
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
            Self::NoSuchPath { path } => not_served(path),
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
            Self::Refused(refusal) => refusal_shape(
                refusal,
                "A lower max_tokens may fit; with the header x-berth-clamp: max-tokens it is lowered to what does.",
            ),
            Self::RefusedAtAnyLength(refusal) => {
                refusal_shape(refusal, "The shortest answer that is of any use would not fit either.")
            }
            Self::OwnKeyUnreadable => ErrorShape::new(
                StatusCode::FORBIDDEN,
                "permission_error",
                BAD,
                "Your own key for this provider cannot be read any more, so the call was not made. On Berth's page of \
                 your own keys, put it in again or remove it."
                    .into(),
            ),
            // Without details: the cause may contain internal addresses of the provider, or the platform's key.
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

fn closed(wish: Wish) -> ErrorShape {
    let message = match wish {
        Wish::Removed => "The operator removed this instance, so it makes no AI calls.",
        Wish::Leaving => "This account is scheduled for deletion, so its instance makes no AI calls.",
        _ => "This account is suspended, so its instance makes no AI calls. Ask the operator of this server why.",
    };
    ErrorShape {
        openai_code: Some("access_terminated"),
        ..ErrorShape::new(StatusCode::FORBIDDEN, "permission_error", "invalid_request_error", message.into())
    }
}

fn not_served(path: &str) -> ErrorShape {
    let message = format!(
        "{path} is not served here. Berth's quota proxy forwards what it can meter: POST /anthropic/v1/messages and \
         /anthropic/v1/messages/count_tokens, GET /anthropic/v1/models, POST /openai/v1/chat/completions, \
         /openai/v1/responses and /openai/v1/embeddings, GET /openai/v1/models; and GET /budget says what is left."
    );
    ErrorShape {
        openai_code: Some("unknown_url"),
        ..ErrorShape::new(StatusCode::NOT_FOUND, "not_found_error", "invalid_request_error", message)
    }
}
