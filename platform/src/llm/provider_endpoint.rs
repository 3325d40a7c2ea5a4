//! A provider's endpoint: its base URL, its authentication header, the platform's keys for it, and a circuit breaker.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue, header};
use berth_providers::WireFormat;
use reqwest::Url;
use zeroize::Zeroizing;

use super::key_pool::ApiKeyPool;
use super::proxy_error::ProxyError;
use super::upstream_path::UpstreamPath;
use crate::config::MeteredApi;
use crate::own_keys::CallKey;

/// Circuit breaker: after a connect timeout, calls to the endpoint fail at once for this long, instead of each waiting
/// for its own timeout.
const UNREACHABLE_FOR: Duration = Duration::from_secs(3);

/// Where the key of a call comes from, and so the account at the provider that pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    Platform,
    /// The own key of the owner of the calling instance.
    Caller,
}

/// One provider, for calls under the keys of one payer.
pub struct ProviderEndpoint {
    /// `None` when the configured URL cannot be parsed.
    base: Option<Url>,
    pub key_source: KeySource,
    /// `None` for an API without models.
    pub wire_format: Option<WireFormat>,
    /// The header in which the provider expects the key.
    pub key_header: HeaderName,
    /// Empty for [`KeySource::Caller`].
    pub keys: ApiKeyPool,
    unreachable_until: Mutex<Option<Instant>>,
}

impl ProviderEndpoint {
    /// An endpoint of models, under the platform's keys.
    pub fn for_models(format: WireFormat, url: &str, keys: &[Zeroizing<String>]) -> Self {
        let keys = pool(keys, |key| header_text(format, key));
        Self::new(url, KeySource::Platform, Some(format), key_header(format), keys)
    }

    /// An endpoint of models, under keys of the callers.
    pub fn for_own_keys(format: WireFormat, url: &str) -> Self {
        // Without a key of the platform in this endpoint, none can replace a caller's key, whatever goes wrong.
        Self::new(url, KeySource::Caller, Some(format), key_header(format), ApiKeyPool::new(Vec::new()))
    }

    /// The endpoint of an API without models.
    pub fn for_metered(api: &MeteredApi) -> Self {
        let header = api.key.as_ref().and_then(|key| HeaderName::try_from(key.header.as_str()).ok());
        let keys: Vec<_> = api.key.iter().map(|key| key.value.clone()).collect();
        let keys = pool(&keys, str::to_owned);
        Self::new(&api.url, KeySource::Platform, None, header.unwrap_or(header::AUTHORIZATION), keys)
    }

    fn new(
        url: &str,
        key_source: KeySource,
        wire_format: Option<WireFormat>,
        key_header: HeaderName,
        keys: ApiKeyPool,
    ) -> Self {
        let (base, unreachable_until) = (Url::parse(url).ok(), Mutex::default());
        Self { base, key_source, wire_format, key_header, keys, unreachable_until }
    }

    /// The URL of `path` at this provider.
    ///
    /// # Errors
    /// `NoSuchPath` when URL normalization changes `path`, although it was checked before; `UpstreamUnreachable`
    /// without a valid base URL.
    pub fn url(&self, path: &UpstreamPath) -> Result<Url, ProxyError> {
        let mut url = self.base.clone().ok_or(ProxyError::UpstreamUnreachable)?;
        let expected = format!("{}{}", url.path().trim_end_matches('/'), path.path());
        url.set_path(&expected);
        url.set_query(path.query());
        // Defence in depth against path traversal: the platform's key must not open a path other than the one checked.
        if url.path() != expected {
            tracing::error!(
                expected,
                actual = url.path(),
                "the path of a provider call was normalized; it is not sent"
            );
            return Err(ProxyError::NoSuchPath { path: expected });
        }
        Ok(url)
    }

    /// A caller's own key as the value of [`Self::key_header`]. This copy lives as long as the call.
    ///
    /// # Errors
    /// `OwnKeyUnreadable` when the key cannot be decrypted, or does not fit into a header.
    pub fn own_key_header(&self, own: &CallKey) -> Result<HeaderValue, ProxyError> {
        let key = own.reveal().map_err(|_| ProxyError::OwnKeyUnreadable)?;
        let key = std::str::from_utf8(&key).map_err(|_| ProxyError::OwnKeyUnreadable)?;
        let text = Zeroizing::new(header_text(self.wire_format.unwrap_or(WireFormat::Openai), key));
        sensitive_value(&text).ok_or(ProxyError::OwnKeyUnreadable)
    }

    /// Whether the circuit breaker is open: a connection timed out a moment ago.
    pub fn is_unreachable(&self, now: Instant) -> bool {
        let until = self.unreachable_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    /// Opens the circuit breaker after a connect timeout.
    pub fn mark_unreachable(&self, now: Instant) {
        *self.unreachable_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + UNREACHABLE_FOR);
    }
}

fn key_header(format: WireFormat) -> HeaderName {
    match format {
        WireFormat::Anthropic => HeaderName::from_static("x-api-key"),
        WireFormat::Openai => header::AUTHORIZATION,
    }
}

/// The value of the key header.
fn header_text(format: WireFormat, key: &str) -> String {
    match format {
        WireFormat::Anthropic => key.to_owned(),
        WireFormat::Openai => format!("Bearer {key}"),
    }
}

/// A key that is not a valid header value, such as one with a line break, is left out; the provider then reports a
/// missing key.
fn pool(keys: &[Zeroizing<String>], header_text: impl Fn(&str) -> String) -> ApiKeyPool {
    ApiKeyPool::new(keys.iter().filter_map(|key| sensitive_value(&header_text(key))).collect())
}

/// A header value that debug output and HPACK's compression table leave out.
fn sensitive_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
