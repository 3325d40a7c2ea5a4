//! The budget endpoint: the remaining AI budget of the owner's account, as JSON, or as sentences for an agent's prompt.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use berth_ground::error::Error;
use serde::Serialize;

use super::api_error::ApiError;
use super::calling_instance::CallingInstance;
use crate::app::App;
use crate::http::format::{about, at_least, day};
use crate::http::problem::{Problem, method_not_allowed};
use crate::quota::reports::{AccountBudget, ModelSpend, RateLimitView};

const TRY_AGAIN: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/budget", get(show)).method_not_allowed_fallback(async || ApiError(method_not_allowed().await))
}

#[derive(Serialize)]
struct BudgetView {
    #[serde(flatten)]
    left: AccountBudget,
    /// The spend of this month, the most expensive model first.
    by_model: Vec<ModelSpend>,
    /// The providers that are called under the owner's own keys, at no cost to the budget.
    own_keys: Vec<String>,
}

enum BudgetFormat {
    Json,
    Text,
}

/// `GET /budget`, as JSON; with `Accept: text/plain` or `?format=text` as text. The request does not keep the instance
/// awake.
async fn show(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let account = instance.account;
    let format = format(&uri, &headers)?;
    let left = app.quota.reports.budget(account).await.map_err(unavailable)?;
    let own_keys = app.own_keys.in_use(account);
    Ok(match format {
        BudgetFormat::Text => format!("{}{}\n", sentences(&left), own_keys_sentence(&own_keys)).into_response(),
        BudgetFormat::Json => {
            let by_model = app.quota.reports.models_this_month(account).await.map_err(unavailable)?;
            Json(BudgetView { left, by_model, own_keys }).into_response()
        }
    })
}

/// 503 with Retry-After for every failure to read the figures. An agent asks before each step of its work: told when to
/// ask again it waits, where 500 would make it give up.
fn unavailable(error: Error) -> ApiError {
    tracing::error!(error = ?error, "a budget could not be read");
    let message = "The budget cannot be read just now. Please try again.".into();
    Error::Unavailable { message, retry_after: TRY_AGAIN }.into()
}

fn format(uri: &Uri, headers: &HeaderMap) -> Result<BudgetFormat, Problem> {
    // The query takes precedence: most HTTP clients in scripts set the header on their own.
    let format = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("format="));
    match format {
        Some("text") => Ok(BudgetFormat::Text),
        Some("json") => Ok(BudgetFormat::Json),
        Some(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "malformed", "Not understood", "format: text or json")),
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            Ok(if accepted.starts_with("text/plain") { BudgetFormat::Text } else { BudgetFormat::Json })
        }
    }
}

/// One sentence about money and one about rate limits, in plain ASCII.
fn sentences(left: &AccountBudget) -> String {
    let today = &left.today;
    let of_month = left.allowance_nanodollars.saturating_add(left.credit_nanodollars);
    // Not `left_nanodollars`, which the daily allowance may lower: the sentence names both.
    let month = of_month.saturating_sub(left.spent_nanodollars).saturating_sub(left.held_nanodollars);
    let mut money = format!(
        "AI budget: {} of {} is left this month (whole again on {}, UTC)",
        at_least(month),
        about(of_month),
        day(&left.resets_on.to_string())
    );
    if let (Some(of), Some(rest)) = (today.allowance_nanodollars, today.left_nanodollars) {
        money.push_str(&format!(", and {} of {} today", at_least(rest), about(of)));
    }
    let mut rates = Vec::new();
    let rate = |rate: RateLimitView, unit| format!("{} of {} {unit}", rate.remaining, rate.limit);
    rates.extend(left.requests_a_minute.map(|requests| rate(requests, "calls")));
    rates.extend(left.tokens_a_minute.map(|tokens| rate(tokens, "tokens")));
    let places = left.calls_at_once;
    let free = places.limit.saturating_sub(places.in_flight);
    let places = format!("{free} of {} calls may be begun at once", places.limit);
    if rates.is_empty() {
        format!("{money}. Just now {places}.")
    } else {
        format!("{money}. {} are left this minute; just now {places}.", rates.join(" and "))
    }
}

/// A sentence about the providers that are called under own keys; empty without any.
fn own_keys_sentence(providers: &[String]) -> String {
    if providers.is_empty() {
        return String::new();
    }
    format!(" Calls to {} use their owner's own key and cost this budget nothing.", providers.join(" and "))
}

#[cfg(test)]
mod tests {
    use berth_ground::money::Nanodollars;

    use super::*;
    use crate::quota::reports::{CallConcurrency, DayBudget};

    #[test]
    fn the_text_is_one_sentence_for_money_and_one_for_the_rate_limits() {
        let mut left = AccountBudget {
            period: "2026-11".parse().unwrap(),
            allowance_nanodollars: Nanodollars(5_000_000_000),
            credit_nanodollars: Nanodollars::ZERO,
            spent_nanodollars: Nanodollars(1_234_567_891),
            held_nanodollars: Nanodollars::ZERO,
            left_nanodollars: Nanodollars(310_000_000),
            resets_on: "2026-12-01".parse().unwrap(),
            today: DayBudget {
                day: "2026-11-20".parse().unwrap(),
                allowance_nanodollars: None,
                spent_nanodollars: Nanodollars(190_000_000),
                held_nanodollars: Nanodollars::ZERO,
                left_nanodollars: None,
                resets_on: "2026-11-21".parse().unwrap(),
            },
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: CallConcurrency { limit: 5, in_flight: 2 },
        };
        assert_eq!(
            sentences(&left),
            "AI budget: $3.76 of $5.00 is left this month (whole again on 1 Dec, UTC). Just now 3 of 5 calls may be begun at once."
        );
        left.today.allowance_nanodollars = Some(Nanodollars(500_000_000));
        left.today.left_nanodollars = Some(Nanodollars(310_000_000));
        left.credit_nanodollars = Nanodollars(1_000_000_000);
        left.requests_a_minute = Some(RateLimitView { limit: 60, remaining: 57, full_in_seconds: 3 });
        left.tokens_a_minute = Some(RateLimitView { limit: 400_000, remaining: 291_040, full_in_seconds: 17 });
        assert_eq!(
            sentences(&left),
            "AI budget: $4.76 of $6.00 is left this month (whole again on 1 Dec, UTC), and $0.31 of $0.50 today. 57 of 60 \
             calls and 291040 of 400000 tokens are left this minute; just now 3 of 5 calls may be begun at once."
        );
    }
}
