//! The way to the providers: where they are, and which headers pass in either direction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use bytes::Bytes;
use reqwest::Url;
use zeroize::Zeroizing;

use super::clients::Clients;
use super::keys::Keys;
use super::outgoing::Outgoing;
use super::patience::Patience;
use super::problem::Problem;
use super::target::Target;
use crate::clock::Clock;
use crate::config::{Config, MeteredApi, Speaks};
use crate::hop;
use crate::own_keys::CallKey;

/// After an address that took no connection in time, for how long nobody else waits for it.
const AWAY_FOR: Duration = Duration::from_secs(3);

/// Of a call, only these pass; so nothing does that identifies the tenant or its network, and nothing unheard of.
const FORWARDED: &[&str] = &["content-type", "accept", "user-agent", "openai-beta"];
/// What SDKs say of themselves, and Anthropic's own, which travel in pairs with fields of the body.
const FORWARDED_PREFIXES: &[&str] = &["anthropic-", "x-stainless-", "x-claude-code-"];
/// These would choose another customer of the provider.
const NOT_FORWARDED: &[&str] = &["anthropic-user-profile-id", "anthropic-workspace-id"];

/// Of an answer: what would act on another origin, or is set anew.
const NOT_RETURNED: &[&str] = &["content-length", "trailer", "set-cookie", "alt-svc"];
/// What describes the platform's account at the provider.
const NOT_RETURNED_OF_OURS: &[&str] =
    &["anthropic-organization-id", "anthropic-workspace-id", "openai-organization", "openai-project"];
/// The limits of the platform's key, and what is left of them.
const NOT_RETURNED_PREFIXES: &[&str] = &["anthropic-ratelimit-", "anthropic-priority-", "x-ratelimit-"];
/// The limits of a subscription, which Claude Code shows to whoever pays for it.
const RETURNED_PREFIX: &str = "anthropic-ratelimit-unified-";

/// The providers. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams {
    pub(super) clients: Clients,
    pub(super) clock: Clock,
    pub(super) patience: Patience,
    ways: Arc<HashMap<String, Arc<Way>>>,
    /// The ways of calls under people's own keys. No key of the platform's is on them, so none can stand in for one of those.
    own_ways: Arc<HashMap<String, Arc<Way>>>,
}

/// The way to one provider.
pub(super) struct Way {
    base: Option<Url>,
    /// Whether the caller's own account at the provider is on it, and not the platform's.
    pub is_own: bool,
    /// The wire shape of its models, if it has any.
    speaks: Option<Speaks>,
    /// The header in which it takes a key.
    pub key_header: HeaderName,
    pub keys: Keys,
    away_until: Mutex<Option<Instant>>,
}

impl Way {
    fn to_models(speaks: Speaks, url: &str, keys: &[Zeroizing<String>]) -> Arc<Self> {
        let (key_header, keys) = (key_header(speaks), sensitive(keys, |key| written(speaks, key)));
        let (base, speaks) = (Url::parse(url).ok(), Some(speaks));
        Arc::new(Self { base, is_own: false, speaks, key_header, keys, away_until: Mutex::default() })
    }

    fn under_own_keys(speaks: Speaks, url: &str) -> Arc<Self> {
        let (key_header, keys) = (key_header(speaks), Keys::new(Vec::new()));
        let (base, speaks) = (Url::parse(url).ok(), Some(speaks));
        Arc::new(Self { base, is_own: true, speaks, key_header, keys, away_until: Mutex::default() })
    }

    fn to_metered(api: &MeteredApi) -> Arc<Self> {
        let header = api.key.as_ref().and_then(|key| HeaderName::try_from(key.header.as_str()).ok());
        let key: Vec<_> = api.key.iter().map(|key| key.value.clone()).collect();
        Arc::new(Self {
            base: Url::parse(&api.url).ok(),
            is_own: false,
            speaks: None,
            key_header: header.unwrap_or(header::AUTHORIZATION),
            keys: sensitive(&key, |key| key.to_owned()),
            away_until: Mutex::default(),
        })
    }

    /// A person's own key as the header that opens the provider has it. This copy lasts as long as the call.
    fn opened_by(&self, own: &CallKey) -> Result<HeaderValue, Problem> {
        let key = own.reveal().map_err(|_| Problem::OwnKeyUnreadable)?;
        let key = std::str::from_utf8(&key).map_err(|_| Problem::OwnKeyUnreadable)?;
        let text = Zeroizing::new(written(self.speaks.unwrap_or(Speaks::Openai), key));
        sensitive_value(&text).ok_or(Problem::OwnKeyUnreadable)
    }

    pub fn is_away(&self, now: Instant) -> bool {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }

    pub fn took_no_connection(&self, now: Instant) {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + AWAY_FOR);
    }
}

/// The header in which a provider takes a key.
fn key_header(speaks: Speaks) -> HeaderName {
    match speaks {
        Speaks::Anthropic => HeaderName::from_static("x-api-key"),
        Speaks::Openai => header::AUTHORIZATION,
    }
}

/// A key as it stands in that header.
fn written(speaks: Speaks, key: &str) -> String {
    match speaks {
        Speaks::Anthropic => key.to_owned(),
        Speaks::Openai => format!("Bearer {key}"),
    }
}

/// A key with a line break in it fits no header; the provider then says that there is none.
fn sensitive(keys: &[Zeroizing<String>], written: impl Fn(&str) -> String) -> Keys {
    Keys::new(keys.iter().filter_map(|key| sensitive_value(&written(key))).collect())
}

fn sensitive_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Upstreams {
    /// # Panics
    /// Never: nothing here depends on the outside.
    #[must_use]
    pub fn new(config: &Config, clock: Clock, patience: Patience) -> Self {
        let (mut ways, mut own_ways) = (HashMap::new(), HashMap::new());
        for (name, speaks, upstream) in
            [("anthropic", Speaks::Anthropic, &config.anthropic), ("openai", Speaks::Openai, &config.openai)]
        {
            ways.insert(name.to_owned(), Way::to_models(speaks, &upstream.url, &upstream.keys));
            own_ways.insert(name.to_owned(), Way::under_own_keys(speaks, &upstream.url_for_own_keys));
        }
        for (name, provider) in &config.providers.models {
            ways.insert(name.clone(), Way::to_models(provider.speaks, &provider.url, &provider.keys));
            own_ways.insert(name.clone(), Way::under_own_keys(provider.speaks, &provider.url));
        }
        for (name, api) in &config.providers.metered {
            ways.insert(name.clone(), Way::to_metered(api));
        }
        Self { clients: Clients::new(patience), clock, patience, ways: Arc::new(ways), own_ways: Arc::new(own_ways) }
    }

    /// The wire shape of the models of that name. `None`: there are none.
    #[must_use]
    pub fn speaks(&self, name: &str) -> Option<Speaks> {
        self.ways.get(name)?.speaks
    }

    /// A call to `target` at the provider of that name, to be sent under the caller's own key where there is one, and under
    /// one of the platform's only where there is none.
    ///
    /// # Errors
    /// `NoSuchPath` when there is no such provider, or when the address would become another one than `target`, whatever
    /// checked it before; `OwnKeyUnreadable`.
    pub fn call(
        &self,
        (name, own): (&str, Option<&CallKey>),
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Outgoing, Problem> {
        let ways = if own.is_some() { &self.own_ways } else { &self.ways };
        let way = ways.get(name).ok_or_else(|| Problem::NoSuchPath { path: target.path().to_owned() })?;
        let url = address(way.base.clone().ok_or(Problem::UpstreamUnreachable)?, target)?;
        let mut headers = passing(headers, |name| !is_forwarded(name));
        // Usage is read beside the path, so the answer must come as it is.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(own) = own {
            headers.insert(way.key_header.clone(), way.opened_by(own)?);
        }
        Ok(Outgoing { upstreams: self.clone(), way: Arc::clone(way), method, url, headers, body, seat: 0 })
    }
}

fn address(mut url: Url, target: &Target) -> Result<Url, Problem> {
    let meant = format!("{}{}", url.path().trim_end_matches('/'), target.path());
    url.set_path(&meant);
    url.set_query(target.query());
    if url.path() != meant {
        tracing::error!(meant, became = url.path(), "an address changed on its way to a provider; not called");
        return Err(Problem::NoSuchPath { path: meant });
    }
    Ok(url)
}

/// Takes the million tokens of context out of `anthropic-beta`: the model's price is known without them only.
pub fn hold_back_long_context(headers: &mut HeaderMap) {
    const BETA: &str = "anthropic-beta";
    let values = headers.get_all(BETA).iter().map(|value| value.to_str().unwrap_or_default());
    let (long, kept): (Vec<&str>, Vec<&str>) =
        values.flat_map(|value| value.split(',')).map(str::trim).partition(|beta| beta.starts_with("context-1m"));
    if long.is_empty() {
        return;
    }
    let kept = HeaderValue::from_str(&kept.join(","));
    headers.remove(BETA);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(BETA, kept);
    }
}

fn is_forwarded(name: &str) -> bool {
    let is_known = FORWARDED.contains(&name) || FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_known && !NOT_FORWARDED.contains(&name)
}

/// The headers of an answer that may go on to the instance.
#[must_use]
pub fn returning(headers: HeaderMap) -> HeaderMap {
    passing(headers, |name| {
        let is_of_the_key = NOT_RETURNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let is_of_ours = NOT_RETURNED_OF_OURS.contains(&name) || (is_of_the_key && !name.starts_with(RETURNED_PREFIX));
        NOT_RETURNED.contains(&name) || is_of_ours
    })
}

/// The same of an answer to the caller's own key: what it says of that key's account is theirs to read.
#[must_use]
pub fn returning_to_its_owner(headers: HeaderMap) -> HeaderMap {
    passing(headers, |name| NOT_RETURNED.contains(&name))
}

fn passing(mut headers: HeaderMap, is_held_back: impl Fn(&str) -> bool) -> HeaderMap {
    let is_hop_by_hop = hop::is_hop_by_hop(&headers);
    hop::remove_where(&mut headers, |name| is_held_back(name) || is_hop_by_hop(name));
    headers
}

pub(super) fn tls() -> rustls::ClientConfig {
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
            "x-amzn-of-tomorrow",
            "anthropic-workspace-id",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-of-tomorrow",
            "content-type",
            "x-stainless-lang",
        ]);
        let target = Target::read(&"/anthropic/v1/messages?beta=true".parse().unwrap()).unwrap();
        let upstreams = Upstreams::new(&config, Clock::system(), Patience::default());
        let call = upstreams.call(("anthropic", None), Method::POST, &target, sent, Bytes::new()).unwrap();
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
        assert_eq!(call.way.keys.value(0), "platform-key");
        assert_eq!(call.url.as_str(), "https://api.anthropic.com/v1/messages?beta=true");
    }

    #[test]
    fn the_long_context_is_held_back_and_the_other_betas_are_not() {
        let mut headers = HeaderMap::new();
        for value in ["a-1, context-1m-2025-08-07", "b-2"] {
            headers.append("anthropic-beta", HeaderValue::from_static(value));
        }
        hold_back_long_context(&mut headers);
        assert_eq!(headers.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a-1,b-2"]);
        headers.insert("anthropic-beta", HeaderValue::from_static("context-1m-2025-08-07"));
        hold_back_long_context(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn what_describes_the_platforms_account_is_not_returned() {
        let answered = headers(&[
            "content-type",
            "retry-after",
            "request-id",
            "x-should-retry",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-unified-5h-status",
            "anthropic-priority-input-tokens-remaining",
            "anthropic-workspace-id",
            "openai-project",
            "x-ratelimit-limit-requests",
            "anthropic-organization-id",
            "openai-organization",
            "set-cookie",
            "transfer-encoding",
        ]);
        let mut names: Vec<String> = returning(answered.clone()).keys().map(ToString::to_string).collect();
        names.sort_unstable();
        let returned =
            ["anthropic-ratelimit-unified-5h-status", "content-type", "request-id", "retry-after", "x-should-retry"];
        assert_eq!(names, returned);
        // To whose key it is the answer, it is theirs; what would act on another origin is nobody's.
        let own = returning_to_its_owner(answered.clone());
        assert_eq!(own.len(), answered.len() - 2);
        assert!(!own.contains_key("set-cookie") && own.contains_key("x-ratelimit-limit-requests"));
    }
}
