//! Rate limit headers: an account's remaining requests and tokens per minute, in the headers that each provider's SDK
//! reads. The provider's own headers describe the platform's key and are not passed on.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use berth_ground::clock::Timestamp;
use chrono::{DateTime, SecondsFormat};

use crate::config::WireFormat;
use crate::quota::admission::RateLimits;

#[derive(Clone, Copy)]
enum LimitedUnit {
    Requests,
    Tokens,
}

/// Adds the headers of `limits` in the wire format of a provider.
pub fn add(headers: &mut HeaderMap, format: WireFormat, limits: RateLimits, now: Timestamp) {
    for (unit, rate) in [(LimitedUnit::Requests, limits.requests), (LimitedUnit::Tokens, limits.tokens)] {
        let Some(rate) = rate else { continue };
        let reset = match format {
            WireFormat::Anthropic => moment(now.plus(rate.full_in)),
            WireFormat::Openai => duration(rate.full_in),
        };
        let [limit, remaining, when] = names(format, unit).map(HeaderName::from_static);
        // Under the caller's own key the provider's headers of the same names are still present; these replace them.
        headers.insert(limit, rate.limit.into());
        headers.insert(remaining, rate.remaining.into());
        if let Ok(reset) = HeaderValue::try_from(reset) {
            headers.insert(when, reset);
        }
    }
}

/// The names of the headers for limit, remainder, and time of the full reset.
fn names(format: WireFormat, unit: LimitedUnit) -> [&'static str; 3] {
    match (format, unit) {
        (WireFormat::Anthropic, LimitedUnit::Requests) => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        (WireFormat::Anthropic, LimitedUnit::Tokens) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        (WireFormat::Openai, LimitedUnit::Requests) => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        (WireFormat::Openai, LimitedUnit::Tokens) => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
    }
}

/// RFC 3339, rounded up to whole seconds, so that a client that waits until then is not too early.
fn moment(at: Timestamp) -> String {
    DateTime::from_timestamp(at.0.saturating_add(999).div_euclid(1000), 0)
        .map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}

/// The format of Go's `time.Duration`, which OpenAI sends: `6m0s`, `1.5s`, `12ms`.
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
    use crate::quota::admission::RateLimitState;

    #[test]
    fn each_wire_format_has_headers_of_its_own() {
        let rate = |full_in| RateLimitState { limit: 60, remaining: 12, full_in: Duration::from_millis(full_in) };
        let header_lines = |format, requests, tokens| {
            let mut headers = HeaderMap::new();
            add(&mut headers, format, RateLimits { requests, tokens }, Timestamp(1_794_738_600_000));
            let mut lines: Vec<_> =
                headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            lines.sort();
            lines
        };
        assert_eq!(
            header_lines(WireFormat::Anthropic, Some(rate(48_001)), None),
            [
                "anthropic-ratelimit-requests-limit: 60",
                "anthropic-ratelimit-requests-remaining: 12",
                "anthropic-ratelimit-requests-reset: 2026-11-15T10:30:49Z",
            ]
        );
        assert_eq!(
            header_lines(WireFormat::Openai, None, Some(rate(61_500))),
            ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 1m1.5s",]
        );
        for (ms, text) in [(0, "0ms"), (12, "12ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
