//! The quota's refusals as error responses: status, codes and advice for each reason.

use std::time::Duration;

use axum::http::StatusCode;
use berth_ground::money::Nanodollars;
use berth_providers::ServiceTier;

use super::error_shape::ErrorShape;
use crate::quota::admission::BudgetPeriod;
use crate::quota::prices::UnboundedCost;
use crate::quota::{Day, Refusal, dollars};

/// The response to a refusal. `advice` is a sentence for a call that would fit with a shorter answer.
pub fn refusal_shape(refusal: &Refusal, advice: &str) -> ErrorShape {
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
                resets_on: *resets_on,
            };
            let advice = if refusal.leaves_room() { format!(" {advice}") } else { String::new() };
            spent(format!("{}{advice}", shortage.message()))
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
        // The allowance resets at the end of a day or month: a retry within seconds would only delay the error.
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

/// The field at fault, and the advice.
fn no_bound(model: &str, why: UnboundedCost) -> (&'static str, String) {
    match why {
        UnboundedCost::Size => (
            "max_tokens",
            format!("max_tokens: {model} has no known limits; send text only, and say how long the answer may be."),
        ),
        UnboundedCost::Tier(ServiceTier::Fast) => {
            ("speed", format!("speed: {model} has no known price for fast; leave it out."))
        }
        UnboundedCost::Tier(tier) => {
            ("service_tier", format!("service_tier: {model} has no known price for {}; leave it out.", tier.as_str()))
        }
        UnboundedCost::WebSearch => (
            "tools",
            format!("tools: what a search of the web costs with {model} is not known to Berth; use another model."),
        ),
    }
}

/// An allowance that does not cover a call.
struct AllowanceShortage {
    span: BudgetPeriod,
    left: Nanodollars,
    /// Held for other calls in flight.
    held: Nanodollars,
    needed: Nanodollars,
    resets_on: Day,
}

impl AllowanceShortage {
    fn message(&self) -> String {
        let Self { span, left, held, needed, resets_on } = self;
        let held = if *held > Nanodollars::ZERO {
            format!(" ({} more is held for calls in flight, and part of it comes back)", dollars(*held))
        } else {
            String::new()
        };
        format!(
            "Your AI allowance of this {} does not cover this call: it could cost up to {}, and {} is left{held}. The \
             allowance is whole again on {resets_on} (UTC). A call under a key of your own needs none of it.",
            span.as_str(),
            dollars(*needed),
            dollars(*left),
        )
    }
}
