//! What is left of an account's requests and tokens a minute, in the headers that each provider's clients read. The
//! provider's own describe the platform's key and are not passed on.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat};

use crate::clock::Timestamp;
use crate::config::WireFormat;
use crate::quota::Rate;

#[derive(Clone, Copy)]
enum What {
    Requests,
    Tokens,
}

/// Adds them to `headers`, for the limits that there are.
pub fn add(headers: &mut HeaderMap, speaks: WireFormat, requests: Option<Rate>, tokens: Option<Rate>, now: Timestamp) {
    for (what, rate) in [(What::Requests, requests), (What::Tokens, tokens)] {
        let Some(rate) = rate else { continue };
        let reset = match speaks {
            WireFormat::Anthropic => moment(now.plus(rate.full_in)),
            WireFormat::Openai => duration(rate.full_in),
        };
        let [limit, remaining, when] = names(speaks, what).map(HeaderName::from_static);
        headers.insert(limit, rate.limit.into());
        headers.insert(remaining, rate.remaining.into());
        if let Ok(reset) = HeaderValue::try_from(reset) {
            headers.insert(when, reset);
        }
    }
}

/// Of the headers that say the limit, what is left of it, and when all of it is there again.
fn names(speaks: WireFormat, what: What) -> [&'static str; 3] {
    match (speaks, what) {
        (WireFormat::Anthropic, What::Requests) => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        (WireFormat::Anthropic, What::Tokens) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        (WireFormat::Openai, What::Requests) => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        (WireFormat::Openai, What::Tokens) => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
    }
}

/// As RFC 3339 writes it, in whole seconds, never earlier than it is.
fn moment(at: Timestamp) -> String {
    DateTime::from_timestamp(at.0.saturating_add(999).div_euclid(1000), 0)
        .map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}

/// As Go writes it: `6m0s`, `1.5s`, `12ms`.
fn duration(span: Duration) -> String {
    let ms = span.as_millis();
    match (ms / 60_000, ms % 60_000) {
        (0, ms) if ms < 1000 => format!("{ms}ms"),
        (0, ms) => format!("{}s", seconds(ms)),
        (minutes, ms) => format!("{minutes}m{}s", seconds(ms)),
    }
}

fn seconds(ms: u128) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_is_told_in_its_own_way() {
        let rate = |full_in| Rate { limit: 60, remaining: 12, full_in: Duration::from_millis(full_in) };
        let said = |speaks, requests, tokens| {
            let mut headers = HeaderMap::new();
            add(&mut headers, speaks, requests, tokens, Timestamp(1_794_738_600_000));
            let mut said: Vec<_> =
                headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            said.sort();
            said
        };
        assert_eq!(
            said(WireFormat::Anthropic, Some(rate(48_001)), None),
            [
                "anthropic-ratelimit-requests-limit: 60",
                "anthropic-ratelimit-requests-remaining: 12",
                "anthropic-ratelimit-requests-reset: 2026-11-15T10:30:49Z",
            ]
        );
        assert_eq!(
            said(WireFormat::Openai, None, Some(rate(61_500))),
            ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 1m1.5s",]
        );
        for (ms, text) in [(0, "0ms"), (12, "12ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
