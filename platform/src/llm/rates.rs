//! What is left of an account's own limits, in the headers in which each provider tells of its key's.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat};

use crate::clock::Timestamp;
use crate::quota::{Provider, Rate};

/// Adds what is left of `requests` and `tokens` a minute, where they are limited.
pub fn show(
    provider: Provider,
    (requests, tokens): (Option<Rate>, Option<Rate>),
    now: Timestamp,
    headers: &mut HeaderMap,
) {
    for (what, rate) in [("requests", requests), ("tokens", tokens)] {
        let Some(Rate { limit, remaining, full_in }) = rate else { continue };
        let reset = match provider {
            Provider::Anthropic => moment(now.plus(full_in)),
            Provider::Openai => duration(full_in),
        };
        let mut add = |word: &str, value: String| {
            let name = match provider {
                Provider::Anthropic => format!("anthropic-ratelimit-{what}-{word}"),
                Provider::Openai => format!("x-ratelimit-{word}-{what}"),
            };
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        add("limit", limit.to_string());
        add("remaining", remaining.to_string());
        add("reset", reset);
    }
}

/// RFC 3339, in whole seconds.
fn moment(at: Timestamp) -> String {
    DateTime::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// As Go writes it: `6m0s`, `1.5s`, `12ms`.
fn duration(duration: Duration) -> String {
    let (minutes, milliseconds) = (duration.as_secs() / 60, duration.as_millis() % 60_000);
    match (minutes, milliseconds) {
        (0, milliseconds @ 0..1000) => format!("{milliseconds}ms"),
        (0, milliseconds) => format!("{}s", seconds(milliseconds)),
        (minutes, milliseconds) => format!("{minutes}m{}s", seconds(milliseconds)),
    }
}

fn seconds(milliseconds: u128) -> String {
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_its_own_words_for_what_is_left() {
        let requests = Rate { limit: 60, remaining: 59, full_in: Duration::from_secs(1) };
        let said = |provider| {
            let mut headers = HeaderMap::new();
            show(provider, (Some(requests), None), Timestamp(1_794_000_000_000), &mut headers);
            let mut said: Vec<String> =
                headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            said.sort_unstable();
            said.join(", ")
        };
        assert_eq!(
            said(Provider::Anthropic),
            "anthropic-ratelimit-requests-limit: 60, anthropic-ratelimit-requests-remaining: 59, \
             anthropic-ratelimit-requests-reset: 2026-11-06T21:20:01Z"
        );
        assert_eq!(
            said(Provider::Openai),
            "x-ratelimit-limit-requests: 60, x-ratelimit-remaining-requests: 59, x-ratelimit-reset-requests: 1s"
        );
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (milliseconds, text) in [(0, "0ms"), (12, "12ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s")] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
