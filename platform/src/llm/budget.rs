//! What is left of the owner's budget, for the instance's own page and for agents: in figures, and as sentences to put into a
//! prompt. The path's word is part of the instance contract.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::Door;
use super::caller::caller;
use super::problem::Problem;
use super::request::Unacceptable;
use crate::config::Speaks;
use crate::error::Error;
use crate::http::format::{about, at_least, day};
use crate::quota::{Left, ModelSpend, RateLeft, Refusal};

#[derive(Serialize)]
struct Budget {
    #[serde(flatten)]
    left: Left,
    /// Of this month, dearest first.
    by_model: Vec<ModelSpend>,
    /// Providers that are called under the owner's own key, which costs the budget nothing.
    own_keys: Vec<String>,
}

enum Format {
    Json,
    Text,
}

/// `GET /budget`, as JSON; with `Accept: text/plain` or `?format=text` in words. Asking is no work.
pub async fn show(
    State(door): State<Arc<Door>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let account = caller(&door.app, &headers, peer)?.account;
        let unavailable = |error: Error| Problem::Refused(Refusal::Unavailable(error));
        let format = format(&uri, &headers).map_err(Problem::Unacceptable)?;
        let left = door.app.quota.left(account).await.map_err(unavailable)?;
        let own_keys = door.app.own_keys.in_use(account);
        Ok(match format {
            Format::Text => (sentences(&left) + &of_own_keys(&own_keys) + "\n").into_response(),
            Format::Json => {
                let by_model = door.app.quota.spend(account).await.map_err(unavailable)?.by_model;
                Json(Budget { left, by_model, own_keys }).into_response()
            }
        })
    };
    door.shown(Speaks::Anthropic, answer.await)
}

fn format(uri: &Uri, headers: &HeaderMap) -> Result<Format, Unacceptable> {
    let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("format="));
    match asked {
        Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(_) => Err(Unacceptable { field: Some("format"), message: "format: text or json".into() }),
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            Ok(if accepted.starts_with("text/plain") { Format::Text } else { Format::Json })
        }
    }
}

/// One sentence about money, and one about the pace, in plain ASCII.
fn sentences(left: &Left) -> String {
    let today = &left.today;
    let of_month = left.allowance_nanodollars.saturating_add(left.credit_nanodollars);
    let month = of_month.saturating_sub(left.spent_nanodollars).saturating_sub(left.held_nanodollars);
    let mut money = format!(
        "AI budget: {} of {} is left this month (whole again on {}, UTC)",
        at_least(month),
        about(of_month),
        day(&left.resets_on)
    );
    if let (Some(of), Some(rest)) = (today.allowance_nanodollars, today.left_nanodollars) {
        money.push_str(&format!(", and {} of {} today", at_least(rest), about(of)));
    }
    let mut pace = Vec::new();
    let rate = |rate: RateLeft, what| format!("{} of {} {what}", rate.remaining, rate.limit);
    pace.extend(left.requests_a_minute.map(|requests| rate(requests, "calls")));
    pace.extend(left.tokens_a_minute.map(|tokens| rate(tokens, "tokens")));
    let places = left.calls_at_once;
    let free = places.limit.saturating_sub(places.in_flight);
    let places = format!("{free} of {} calls may be begun at once", places.limit);
    if pace.is_empty() {
        format!("{money}. Just now {places}.")
    } else {
        format!("{money}. {} are left this minute; just now {places}.", pace.join(" and "))
    }
}

/// One more where some calls are not the budget's.
fn of_own_keys(providers: &[String]) -> String {
    if providers.is_empty() {
        return String::new();
    }
    format!(" Calls to {} use their owner's own key and cost this budget nothing.", providers.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Places, Today};

    #[test]
    fn the_budget_is_said_in_one_sentence_for_money_and_one_for_the_pace() {
        let mut left = Left {
            period: "2026-11".into(),
            allowance_nanodollars: 5_000_000_000,
            credit_nanodollars: 0,
            spent_nanodollars: 1_234_567_891,
            held_nanodollars: 0,
            left_nanodollars: 310_000_000,
            resets_on: "2026-12-01".into(),
            today: Today {
                day: "2026-11-20".into(),
                allowance_nanodollars: None,
                spent_nanodollars: 190_000_000,
                held_nanodollars: 0,
                left_nanodollars: None,
                resets_on: "2026-11-21".into(),
            },
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: Places { limit: 5, in_flight: 2 },
        };
        assert_eq!(
            sentences(&left),
            "AI budget: $3.76 of $5.00 is left this month (whole again on 1 Dec, UTC). Just now 3 of 5 calls may be begun at once."
        );
        left.today.allowance_nanodollars = Some(500_000_000);
        left.today.left_nanodollars = Some(310_000_000);
        left.credit_nanodollars = 1_000_000_000;
        left.requests_a_minute = Some(RateLeft { limit: 60, remaining: 57, full_in_seconds: 3 });
        left.tokens_a_minute = Some(RateLeft { limit: 400_000, remaining: 291_040, full_in_seconds: 17 });
        assert_eq!(
            sentences(&left),
            "AI budget: $4.76 of $6.00 is left this month (whole again on 1 Dec, UTC), and $0.31 of $0.50 today. 57 of 60 \
             calls and 291040 of 400000 tokens are left this minute; just now 3 of 5 calls may be begun at once."
        );
    }
}
