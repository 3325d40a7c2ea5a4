//! The way to the providers: one client, the platform's keys, and which headers pass in either direction.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use bytes::Bytes;

use crate::config::{Config, Upstream};
use crate::hop;
use crate::quota::Provider;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence, before the answer or within it. The SDKs' own timeout is ten minutes.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// Of a call: what identifies the tenant or its network, would choose another customer of the provider, or is set anew.
const NOT_FORWARDED: &[&str] = &[
    "host",
    "authorization",
    "x-api-key",
    "cookie",
    "accept-encoding",
    "content-length",
    "expect",
    "via",
    "forwarded",
    "x-real-ip",
    "openai-organization",
    "openai-project",
    "anthropic-user-profile-id",
    "anthropic-workspace-id",
];

/// Of an answer: what describes the platform's account at the provider, would act on another origin, or is set anew.
const NOT_RETURNED: &[&str] =
    &["content-length", "set-cookie", "alt-svc", "anthropic-organization-id", "openai-organization", "openai-project"];

/// The providers. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams {
    client: reqwest::Client,
    anthropic: Upstream,
    openai: Upstream,
}

impl Upstreams {
    /// # Panics
    /// Never: nothing here depends on the outside.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(LONGEST_SILENCE)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("the TLS settings are complete");
        Self { client, anthropic: config.anthropic.clone(), openai: config.openai.clone() }
    }

    /// A call to `path_and_query` of `provider`, under the platform's key.
    pub fn call(
        &self,
        provider: Provider,
        method: Method,
        path_and_query: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> reqwest::RequestBuilder {
        let upstream = match provider {
            Provider::Anthropic => &self.anthropic,
            Provider::Openai => &self.openai,
        };
        let mut headers = passing(headers, |name| {
            NOT_FORWARDED.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("x-berth-")
        });
        // Usage is read beside the path, so the answer must come as it is.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = &upstream.key {
            let (name, value) = match provider {
                Provider::Anthropic => (HeaderName::from_static("x-api-key"), key.to_string()),
                Provider::Openai => (header::AUTHORIZATION, format!("Bearer {}", key.as_str())),
            };
            // A key with a line break in it fits no header; the provider then says that there is none.
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        self.client.request(method, format!("{}{path_and_query}", upstream.url)).headers(headers).body(body)
    }
}

/// The headers of an answer that may go on to the instance.
#[must_use]
pub fn returning(headers: &HeaderMap) -> HeaderMap {
    passing(headers, |name| {
        NOT_RETURNED.contains(&name)
            || name.starts_with("anthropic-ratelimit-")
            || name.starts_with("x-ratelimit-")
            || name.starts_with("anthropic-priority-")
    })
}

fn passing(headers: &HeaderMap, is_held_back: impl Fn(&str) -> bool) -> HeaderMap {
    let mut headers = headers.clone();
    hop::drop_one_hop(&mut headers);
    let held_back: Vec<HeaderName> = headers.keys().filter(|name| is_held_back(name.as_str())).cloned().collect();
    for name in held_back {
        headers.remove(name);
    }
    headers
}

fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[&'static str]) -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x-named"))).collect()
    }

    #[test]
    fn the_tenants_token_cookies_and_connection_headers_stay_here() {
        let config = Config::read(&|name| match name {
            "BERTH_SECRET" => Some("0123456789abcdef0123456789abcdef".into()),
            "ANTHROPIC_API_KEY" => Some("platform-key".into()),
            _ => None,
        })
        .unwrap();
        let sent = headers(&[
            "authorization",
            "x-api-key",
            "cookie",
            "host",
            "connection",
            "x-named",
            "x-forwarded-for",
            "x-berth-user",
            "openai-project",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-of-tomorrow",
            "x-stainless-lang",
        ]);
        let request = Upstreams::new(&config)
            .call(Provider::Anthropic, Method::POST, "/v1/messages?beta=true", &sent, Bytes::new())
            .build()
            .unwrap();
        let mut names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let passed = [
            "accept-encoding",
            "anthropic-beta",
            "anthropic-of-tomorrow",
            "anthropic-version",
            "x-api-key",
            "x-stainless-lang",
        ];
        assert_eq!(names, passed);
        assert_eq!(request.headers()["x-api-key"], "platform-key");
        assert_eq!(request.url().as_str(), "https://api.anthropic.com/v1/messages?beta=true");
    }

    #[test]
    fn what_describes_the_platforms_account_is_not_returned() {
        let answered = headers(&[
            "content-type",
            "retry-after",
            "request-id",
            "x-should-retry",
            "anthropic-ratelimit-tokens-remaining",
            "x-ratelimit-limit-requests",
            "anthropic-organization-id",
            "openai-organization",
            "set-cookie",
            "transfer-encoding",
        ]);
        let mut names: Vec<String> = returning(&answered).keys().map(ToString::to_string).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "request-id", "retry-after", "x-should-retry"]);
    }
}
