//! A call to a provider: key selection and failover, timeouts, and the retries that the provider requests.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use berth_ground::clock::Clock;
use berth_providers::UsageReport;
use bytes::Bytes;
use reqwest::Url;

use super::clients::ThreadClients;
use super::forwarded_headers;
use super::provider_endpoint::{KeySource, ProviderEndpoint};
use super::proxy_error::ProxyError;
use super::timeouts::ProxyTimeouts;
use crate::quota::CallOutcome;

/// The cooldown of a key that the provider does not know: it will not become valid soon.
const UNKNOWN_KEY_COOLDOWN: Duration = Duration::from_secs(300);
/// The cooldown after a 403. Shorter, because the request may be the cause and not the key.
const FORBIDDEN_KEY_COOLDOWN: Duration = Duration::from_secs(30);
/// The cooldown of a rate-limited key without `retry-after`, and the longest `retry-after` that is honoured.
const DEFAULT_RATE_LIMIT_COOLDOWN: Duration = Duration::from_secs(1);
const MAX_COOLDOWN: Duration = Duration::from_secs(60);
/// The longest wait before a retry that the provider requests. Longer waits are left to the client.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(2);

/// The parts of the proxy that every call needs.
#[derive(Clone)]
pub struct CallContext {
    pub clients: ThreadClients,
    pub clock: Clock,
    pub timeouts: ProxyTimeouts,
}

/// A call that is ready to be sent.
pub struct ProviderCall {
    pub(super) context: CallContext,
    pub(super) endpoint: Arc<ProviderEndpoint>,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) key_affinity: u64,
}

/// The reason why a call has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The provider received nothing, so nothing is charged.
    Unreachable,
    /// The provider accepts none of the platform's keys. Its message about them is not shown to tenants.
    NoKeyAccepted,
    /// The provider received the call and was silent until the timeout. It may have completed the call.
    TimedOut,
    /// The connection broke.
    Broken,
}

impl CallFailure {
    /// The usage and outcome with which the call is settled.
    #[must_use]
    pub fn settlement(self) -> (UsageReport, CallOutcome) {
        match self {
            Self::Unreachable => (UsageReport::NoCharge, CallOutcome::UpstreamBroke),
            // A refused call is not charged.
            Self::NoKeyAccepted => (UsageReport::NoCharge, CallOutcome::Refused),
            Self::TimedOut => (UsageReport::Unreadable, CallOutcome::UpstreamBroke),
            // At least the input is charged: the provider received it.
            Self::Broken => (UsageReport::Part { usage: None, output_tokens: 0 }, CallOutcome::UpstreamBroke),
        }
    }
}

impl From<CallFailure> for ProxyError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::TimedOut => Self::UpstreamTimeout,
            CallFailure::Unreachable | CallFailure::NoKeyAccepted | CallFailure::Broken => Self::UpstreamUnreachable,
        }
    }
}

impl From<reqwest::Error> for CallFailure {
    fn from(error: reqwest::Error) -> Self {
        tracing::warn!(error = %error, source = ?std::error::Error::source(&error), "a provider call failed");
        if error.is_connect() || error.is_builder() {
            Self::Unreachable
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Broken
        }
    }
}

/// The kind of response that a call expects, which decides its timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// A stream: its head arrives soon.
    Streamed,
    /// A whole response: its head arrives when all of it has been generated.
    Whole,
}

impl ProviderCall {
    /// The response headers that go on to the instance.
    #[must_use]
    pub fn returned_headers(&self, headers: HeaderMap) -> HeaderMap {
        match self.endpoint.key_source {
            KeySource::Caller => forwarded_headers::to_key_owner(headers),
            KeySource::Platform => forwarded_headers::to_instance(headers),
        }
    }

    /// Sends the call and waits for the head of its response. The only place that sends requests to providers.
    ///
    /// A call is retried only where the provider stated that it did not process the call: with another key after a
    /// refused key, and once when the provider requests a retry. All other retries are left to the client's SDK.
    ///
    /// # Errors
    /// See [`CallFailure`].
    pub async fn send(&self, mode: ResponseMode) -> Result<reqwest::Response, CallFailure> {
        let (clock, keys) = (&self.context.clock, &self.endpoint.keys);
        if self.endpoint.is_unreachable(clock.monotonic()) {
            return Err(CallFailure::Unreachable);
        }
        let mut key = keys.first(self.key_affinity, clock.monotonic());
        let (mut tried, mut may_retry) = (Vec::new(), true);
        loop {
            let response = self.send_with(key, mode).await?;
            let verdict = ResponseVerdict::of(response.status(), response.headers());
            if let (Some(refused), Some(cooldown)) = (key, verdict.cooldown()) {
                keys.cool_down(refused, clock.monotonic(), cooldown);
            }
            let mut alternative = || {
                tried.extend(key);
                keys.alternative(self.key_affinity, &tried, clock.monotonic())
            };
            match (verdict, if verdict.concerns_key() { alternative() } else { None }) {
                (_, Some(other)) => {
                    tracing::warn!(status = response.status().as_u16(), "a provider refused a key; another is tried");
                    key = Some(other);
                }
                // Without a key of the platform, the 401 is about the caller's own key and goes on to the caller.
                (ResponseVerdict::UnknownKey, None) if key.is_some() => {
                    tracing::error!(provider = self.url.host_str(), "a provider does not accept this server's keys");
                    return Err(CallFailure::NoKeyAccepted);
                }
                (ResponseVerdict::RetryIn(wait), _) if may_retry => {
                    may_retry = false;
                    tokio::time::sleep(wait).await;
                }
                _ => return Ok(response),
            }
        }
    }

    async fn send_with(&self, key: Option<usize>, mode: ResponseMode) -> Result<reqwest::Response, CallFailure> {
        let CallContext { clients, clock, timeouts } = &self.context;
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(key) = key {
            request.headers_mut().insert(self.endpoint.key_header.clone(), self.endpoint.keys.value(key).clone());
        }
        *request.body_mut() = Some(self.body.clone().into());
        let client = clients.of_this_thread();
        let sent = match mode {
            ResponseMode::Whole => {
                *request.timeout_mut() = Some(timeouts.whole);
                client.execute(request).await
            }
            // reqwest's own request timeout would also cut the body of a stream, which may last for an hour.
            ResponseMode::Streamed => match tokio::time::timeout(timeouts.first_byte, client.execute(request)).await {
                Ok(sent) => sent,
                Err(_) => return Err(CallFailure::TimedOut),
            },
        };
        sent.map_err(|error| {
            if error.is_connect() && error.is_timeout() {
                self.endpoint.mark_unreachable(clock.monotonic());
            }
            error.into()
        })
    }
}

/// What the head of a response means for the key and for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseVerdict {
    /// The response goes on to the client.
    Final,
    UnknownKey,
    Forbidden,
    /// The key is rate limited for this time.
    RateLimited(Duration),
    Overloaded,
    /// The provider did not process the call and asks for a retry after this time.
    RetryIn(Duration),
}

impl ResponseVerdict {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = text("retry-after").and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
        let asks_for_retry = text("x-should-retry") == Some("true") && wait.is_none_or(|wait| wait <= MAX_RETRY_WAIT);
        match status.as_u16() {
            200..=299 => Self::Final,
            401 => Self::UnknownKey,
            403 => Self::Forbidden,
            429 => Self::RateLimited(wait.unwrap_or(DEFAULT_RATE_LIMIT_COOLDOWN).min(MAX_COOLDOWN)),
            // Anthropic's own status for overload.
            529 => Self::Overloaded,
            _ if asks_for_retry => Self::RetryIn(wait.unwrap_or_default()),
            _ => Self::Final,
        }
    }

    /// Whether another key could succeed.
    fn concerns_key(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Forbidden | Self::RateLimited(_) | Self::Overloaded)
    }

    fn cooldown(self) -> Option<Duration> {
        match self {
            Self::UnknownKey => Some(UNKNOWN_KEY_COOLDOWN),
            Self::Forbidden => Some(FORBIDDEN_KEY_COOLDOWN),
            Self::RateLimited(wait) => Some(wait),
            // An overload is no fault of the key. Another key is tried, because it may have a quota of its own.
            Self::Overloaded | Self::RetryIn(_) | Self::Final => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_head_of_a_response_decides_about_the_key_and_a_retry() {
        let verdict = |status: u16, headers: &[(&'static str, &'static str)]| {
            let named = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
            ResponseVerdict::of(StatusCode::from_u16(status).unwrap(), &named.collect())
        };
        for (status, headers, expected) in [
            (200, &[("x-should-retry", "true")][..], ResponseVerdict::Final),
            (400, &[], ResponseVerdict::Final),
            (401, &[], ResponseVerdict::UnknownKey),
            (403, &[], ResponseVerdict::Forbidden),
            (429, &[], ResponseVerdict::RateLimited(DEFAULT_RATE_LIMIT_COOLDOWN)),
            (429, &[("retry-after", "7")], ResponseVerdict::RateLimited(Duration::from_secs(7))),
            (429, &[("retry-after", "99999999")], ResponseVerdict::RateLimited(MAX_COOLDOWN)),
            (500, &[], ResponseVerdict::Final),
            (500, &[("x-should-retry", "true")], ResponseVerdict::RetryIn(Duration::ZERO)),
            (
                503,
                &[("x-should-retry", "true"), ("retry-after", "1")],
                ResponseVerdict::RetryIn(Duration::from_secs(1)),
            ),
            (503, &[("x-should-retry", "true"), ("retry-after", "30")], ResponseVerdict::Final),
            (503, &[("x-should-retry", "false")], ResponseVerdict::Final),
            (529, &[("x-should-retry", "true")], ResponseVerdict::Overloaded),
        ] {
            assert_eq!(verdict(status, headers), expected, "{status} {headers:?}");
        }
    }
}
