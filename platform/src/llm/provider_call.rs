//! One call on its way to a provider: under which key, how long it is waited for, and when it is sent again.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use reqwest::Url;

use super::proxy_error::Problem;
use super::providers::{self, Upstreams, Way};
use crate::quota::{Outcome, Seen};

/// A key that the provider does not know will not be known in a moment.
const UNKNOWN_KEY_RESTS: Duration = Duration::from_secs(300);
/// It may also be the call that is not allowed.
const FORBIDDEN_KEY_RESTS: Duration = Duration::from_secs(30);
/// A key that made too many calls, where the provider does not say for how long; and the longest that is believed.
const BUSY_KEY_RESTS: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A provider that asks for another try is tried again once, if it asks for no longer wait than this.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// A call on its way to a provider.
pub struct Outgoing {
    pub(super) upstreams: Upstreams,
    pub(super) way: Arc<Way>,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) seat: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider got nothing.
    Unreachable,
    /// It does not accept any of the platform's keys. What it says of them is no tenant's business.
    NoKeyAccepted,
    /// It got the call and said nothing for too long; it may have finished it, unseen.
    Silent,
    /// The connection broke.
    Broken,
}

impl Failure {
    fn of(error: &reqwest::Error) -> Self {
        tracing::warn!(error = %error, source = ?std::error::Error::source(error), "a provider did not answer");
        if error.is_connect() || error.is_builder() {
            Self::Unreachable
        } else if error.is_timeout() {
            Self::Silent
        } else {
            Self::Broken
        }
    }

    /// What is known of the call.
    #[must_use]
    pub fn seen(self) -> (Seen, Outcome) {
        match self {
            Self::Unreachable => (Seen::NoCharge, Outcome::UpstreamBroke),
            Self::NoKeyAccepted => (Seen::NoCharge, Outcome::Refused),
            Self::Silent => (Seen::Unreadable, Outcome::UpstreamBroke),
            Self::Broken => (Seen::Part { usage: None, output_tokens: 0 }, Outcome::UpstreamBroke),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent => Self::UpstreamTimeout,
            Failure::Unreachable | Failure::NoKeyAccepted | Failure::Broken => Self::UpstreamUnreachable,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::of(&error)
    }
}

/// How an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A stream, which begins soon.
    Streamed,
    Whole,
}

impl Outgoing {
    /// The same for a caller that sits at `seat`, which decides the key.
    #[must_use]
    pub fn seated(self, seat: u64) -> Self {
        Self { seat, ..self }
    }

    /// The headers of its answer that may go on to the instance.
    #[must_use]
    pub fn returning(&self, headers: HeaderMap) -> HeaderMap {
        if self.way.is_own { providers::returning_to_its_owner(headers) } else { providers::returning(headers) }
    }

    /// Sends the call and waits for the head of its answer. This is the one place where a provider is called.
    ///
    /// It is sent again only where the provider said that it did not take the call: with another key when this one is
    /// refused or overburdened, and once more when the provider asks for that. All else is the caller's to decide, and
    /// SDKs do.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(&self, answer: Answer) -> Result<reqwest::Response, Failure> {
        let (clock, keys) = (&self.upstreams.clock, &self.way.keys);
        if self.way.is_away(clock.monotonic()) {
            return Err(Failure::Unreachable);
        }
        let mut key = keys.first(self.seat, clock.monotonic());
        let (mut tried, mut may_ask_again) = (Vec::new(), true);
        loop {
            let response = self.send_with(key, answer).await?;
            let said = Said::of(response.status(), response.headers());
            if let (Some(refused), Some(rest)) = (key, said.rest()) {
                keys.rest(refused, clock.monotonic(), rest);
            }
            let mut other = || {
                tried.extend(key);
                keys.other(self.seat, &tried, clock.monotonic())
            };
            match (said, if said.is_of_the_key() { other() } else { None }) {
                (_, Some(other)) => {
                    tracing::warn!(status = response.status().as_u16(), "another key of the provider's is tried");
                    key = Some(other);
                }
                (Said::UnknownKey, None) if key.is_some() => {
                    tracing::error!(provider = self.url.host_str(), "a provider does not accept this server's keys");
                    return Err(Failure::NoKeyAccepted);
                }
                (Said::AgainIn(wait), _) if may_ask_again => {
                    may_ask_again = false;
                    tokio::time::sleep(wait).await;
                }
                _ => return Ok(response),
            }
        }
    }

    async fn send_with(&self, key: Option<usize>, answer: Answer) -> Result<reqwest::Response, Failure> {
        let Upstreams { clients, clock, patience, .. } = &self.upstreams;
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(key) = key {
            request.headers_mut().insert(self.way.key_header.clone(), self.way.keys.value(key).clone());
        }
        *request.body_mut() = Some(self.body.clone().into());
        let client = clients.here();
        let sent = match answer {
            Answer::Whole => {
                *request.timeout_mut() = Some(patience.whole);
                client.execute(request).await
            }
            Answer::Streamed => match tokio::time::timeout(patience.first_byte, client.execute(request)).await {
                Ok(sent) => sent,
                Err(_) => return Err(Failure::Silent),
            },
        };
        sent.map_err(|error| {
            if error.is_connect() && error.is_timeout() {
                self.way.took_no_connection(clock.monotonic());
            }
            Failure::of(&error)
        })
    }
}

/// What the head of an answer means for who may be asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It is the answer.
    This,
    UnknownKey,
    Forbidden,
    /// The key made too many calls, and may make more after this.
    Busy(Duration),
    Overloaded,
    /// Not taken; the provider asks for another try after this.
    AgainIn(Duration),
}

impl Said {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = text("retry-after").and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
        let asks_for_it = text("x-should-retry") == Some("true") && wait.is_none_or(|wait| wait <= SHORT_WAIT);
        match status.as_u16() {
            200..=299 => Self::This,
            401 => Self::UnknownKey,
            403 => Self::Forbidden,
            429 => Self::Busy(wait.unwrap_or(BUSY_KEY_RESTS).min(LONGEST_REST)),
            529 => Self::Overloaded,
            _ if asks_for_it => Self::AgainIn(wait.unwrap_or_default()),
            _ => Self::This,
        }
    }

    /// Whether another key may fare better.
    fn is_of_the_key(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Forbidden | Self::Busy(_) | Self::Overloaded)
    }

    /// For how long the key rests that was answered so.
    fn rest(self) -> Option<Duration> {
        match self {
            Self::UnknownKey => Some(UNKNOWN_KEY_RESTS),
            Self::Forbidden => Some(FORBIDDEN_KEY_RESTS),
            Self::Busy(wait) => Some(wait),
            Self::Overloaded | Self::AgainIn(_) | Self::This => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_an_answer_means_for_the_key_and_for_another_try() {
        let said = |status: u16, headers: &[(&'static str, &'static str)]| {
            let named = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            Said::of(StatusCode::from_u16(status).unwrap(), &named.collect())
        };
        for (status, headers, expected) in [
            (200, &[("x-should-retry", "true")][..], Said::This),
            (400, &[], Said::This),
            (401, &[], Said::UnknownKey),
            (403, &[], Said::Forbidden),
            (429, &[], Said::Busy(BUSY_KEY_RESTS)),
            (429, &[("retry-after", "7")], Said::Busy(Duration::from_secs(7))),
            (429, &[("retry-after", "99999999")], Said::Busy(LONGEST_REST)),
            (500, &[], Said::This),
            (500, &[("x-should-retry", "true")], Said::AgainIn(Duration::ZERO)),
            (503, &[("x-should-retry", "true"), ("retry-after", "1")], Said::AgainIn(Duration::from_secs(1))),
            (503, &[("x-should-retry", "true"), ("retry-after", "30")], Said::This),
            (503, &[("x-should-retry", "false")], Said::This),
            (529, &[("x-should-retry", "true")], Said::Overloaded),
        ] {
            assert_eq!(said(status, headers), expected, "{status} {headers:?}");
        }
    }
}
