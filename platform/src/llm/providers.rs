//! The directory of providers: their endpoints by name, and the preparation of a call to one of them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Method, header};
use berth_ground::clock::Clock;
use berth_providers::WireFormat;
use bytes::Bytes;

use super::clients::ThreadClients;
use super::forwarded_headers;
use super::provider_call::{CallContext, ProviderCall};
use super::provider_endpoint::ProviderEndpoint;
use super::proxy_error::ProxyError;
use super::timeouts::ProxyTimeouts;
use super::upstream_path::UpstreamPath;
use crate::config::Config;
use crate::own_keys::CallKey;

/// The endpoints of all configured providers. Cheap to clone.
#[derive(Clone)]
pub struct ProviderDirectory {
    context: CallContext,
    by_name: Arc<HashMap<String, Arc<ProviderEndpoint>>>,
    /// Calls under own keys have endpoints of their own, which hold no key of the platform.
    for_own_keys: Arc<HashMap<String, Arc<ProviderEndpoint>>>,
}

/// A request to a provider, before it is checked and given a key.
pub struct ProviderRequest<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The caller's own key. A key of the platform is used only without it.
    pub own_key: Option<&'a CallKey>,
    pub method: Method,
    pub path: &'a UpstreamPath,
    /// The headers as received from the instance.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Selects one of the platform's keys; see [`ApiKeyPool::first`](super::key_pool::ApiKeyPool::first).
    pub key_affinity: u64,
}

impl ProviderDirectory {
    #[must_use]
    pub fn new(config: &Config, clock: Clock, timeouts: ProxyTimeouts) -> Self {
        let (mut by_name, mut for_own_keys) = (HashMap::new(), HashMap::new());
        for (name, format, upstream) in
            [("anthropic", WireFormat::Anthropic, &config.anthropic), ("openai", WireFormat::Openai, &config.openai)]
        {
            by_name
                .insert(name.to_owned(), Arc::new(ProviderEndpoint::for_models(format, &upstream.url, &upstream.keys)));
            let own = ProviderEndpoint::for_own_keys(format, &upstream.url_for_own_keys);
            for_own_keys.insert(name.to_owned(), Arc::new(own));
        }
        for (name, provider) in &config.providers.models {
            let (format, url) = (provider.speaks, &provider.url);
            by_name.insert(name.clone(), Arc::new(ProviderEndpoint::for_models(format, url, &provider.keys)));
            for_own_keys.insert(name.clone(), Arc::new(ProviderEndpoint::for_own_keys(format, url)));
        }
        // Metered APIs have no endpoints for own keys: own keys are for model providers only.
        for (name, api) in &config.providers.metered {
            by_name.insert(name.clone(), Arc::new(ProviderEndpoint::for_metered(api)));
        }
        let context = CallContext { clients: ThreadClients::new(timeouts), clock, timeouts };
        Self { context, by_name: Arc::new(by_name), for_own_keys: Arc::new(for_own_keys) }
    }

    /// The wire format of a provider's models. `None` for an unknown provider, or one without models.
    #[must_use]
    pub fn wire_format(&self, provider: &str) -> Option<WireFormat> {
        self.by_name.get(provider)?.wire_format
    }

    #[must_use]
    pub fn timeouts(&self) -> ProxyTimeouts {
        self.context.timeouts
    }

    /// Prepares a call.
    ///
    /// # Errors
    /// `NoSuchPath` for an unknown provider, and as in [`ProviderEndpoint::url`]; `OwnKeyUnreadable`.
    pub fn prepare(&self, request: ProviderRequest<'_>) -> Result<ProviderCall, ProxyError> {
        let ProviderRequest { provider, own_key, method, path, headers, body, key_affinity } = request;
        let endpoints = if own_key.is_some() { &self.for_own_keys } else { &self.by_name };
        let endpoint =
            endpoints.get(provider).ok_or_else(|| ProxyError::NoSuchPath { path: path.path().to_owned() })?;
        let url = endpoint.url(path)?;
        let mut headers = forwarded_headers::to_provider(headers);
        // The usage is parsed from the passing bytes, so the provider must not compress them.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(own_key) = own_key {
            headers.insert(endpoint.key_header.clone(), endpoint.own_key_header(own_key)?);
        }
        let (context, endpoint) = (self.context.clone(), Arc::clone(endpoint));
        Ok(ProviderCall { context, endpoint, method, url, headers, body, key_affinity })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn the_tenants_token_cookies_and_connection_headers_stay_here() {
        let config = Config::read(&|name| match name {
            "BERTH_SECRET" => Some("0123456789abcdef0123456789abcdef".into()),
            "ANTHROPIC_API_KEY" => Some("platform-key".into()),
            _ => None,
        })
        .unwrap();
        let sent = [
            "authorization",
            "x-api-key",
            "cookie",
            "host",
            "connection",
            "x-named",
            "x-forwarded-for",
            "x-berth-user",
            "openai-project",
            "x-amzn-of-tomorrow",
            "anthropic-workspace-id",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-of-tomorrow",
            "content-type",
            "x-stainless-lang",
        ];
        let sent =
            sent.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x-named"))).into_iter().collect();
        let path = UpstreamPath::from_uri(&"/anthropic/v1/messages?beta=true".parse().unwrap()).unwrap();
        let providers = ProviderDirectory::new(&config, Clock::system(), ProxyTimeouts::default());
        let request = ProviderRequest {
            provider: "anthropic",
            own_key: None,
            method: Method::POST,
            path: &path,
            headers: sent,
            body: Bytes::new(),
            key_affinity: 0,
        };
        let call = providers.prepare(request).unwrap();
        let mut names: Vec<&str> = call.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let passed = [
            "accept-encoding",
            "anthropic-beta",
            "anthropic-of-tomorrow",
            "anthropic-version",
            "content-type",
            "x-stainless-lang",
        ];
        assert_eq!(names, passed);
        assert_eq!(call.endpoint.keys.value(0), "platform-key");
        assert_eq!(call.url.as_str(), "https://api.anthropic.com/v1/messages?beta=true");
    }
}
