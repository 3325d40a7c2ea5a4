//! Metered APIs: APIs without models that have a price per call. Only the calls listed in the operator's providers file
//! are allowed.

use axum::http::{Method, Uri};
use berth_ground::money::Nanodollars;
use berth_providers::request::RequestError;
use berth_providers::{CacheWrites, Demand, InputBound, Provider, ServiceTier, TierChoice};

use super::proxy_error::ProxyError;
use super::upstream_path::UpstreamPath;
use crate::config::{MeteredApi, MeteredCall};

/// The largest response of a metered API, in bytes. Where bytes have a price, the hold covers this many.
pub const MAX_RESPONSE: usize = 16 * 1024 * 1024;
/// The longest path segment that a star matches, in bytes.
const MAX_SEGMENT: usize = 200;
const MAX_QUERY: usize = 2000;

/// Finds the call of `api` that a request makes, and its path at the provider.
///
/// # Errors
/// `NoSuchPath` when the operator's file has no such call; `InvalidRequest` for a query that cannot be forwarded.
pub fn find<'a>(
    api: &'a MeteredApi,
    method: &Method,
    uri: &Uri,
) -> Result<(&'a MeteredCall, UpstreamPath), ProxyError> {
    let no_such = || ProxyError::NoSuchPath { path: format!("{method} {}", uri.path()) };
    // The path after `/metered/NAME`.
    let path = uri.path().splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).ok_or_else(no_such)?;
    let call = api.calls.iter().find(|call| call.method == method.as_str() && matches(&call.path, &path));
    let call = call.ok_or_else(no_such)?;
    // Checked by byte, because the query is forwarded unchanged, and parsers disagree about other characters.
    let query = uri.query().filter(|query| !query.is_empty());
    if query.is_some_and(|query| query.len() > MAX_QUERY || !query.bytes().all(may_be_in_a_query)) {
        let message = "The query is too long, or has characters in it that have to be percent-encoded.".into();
        return Err(ProxyError::InvalidRequest(RequestError { field: None, message }));
    }
    Ok((call, UpstreamPath::trusted(path, query.map(str::to_owned))))
}

/// Whether `path` matches `pattern`: equal segments, and any plain word for a star. The path is compared without
/// percent-decoding, so an encoded slash or dot never matches.
fn matches(pattern: &str, path: &str) -> bool {
    let is_word = |part: &str| {
        let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:,@~".contains(&b));
        plain && (1..=MAX_SEGMENT).contains(&part.len()) && part != "." && part != ".."
    };
    let (mut expected, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if is_word(part) => {}
            (Some(expected), Some(part)) if expected == part && expected != "*" => {}
            _ => return false,
        }
    }
}

fn may_be_in_a_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~:,@=&%+/?!*".contains(&byte)
}

/// The priced bytes of a request body. `None` for a call without a price per byte.
#[must_use]
pub fn charged_bytes(call: &MeteredCall, body: &[u8]) -> Option<u64> {
    (call.dollars_per_million_bytes.nanodollars > Nanodollars::ZERO)
        .then(|| u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// The demand of a call. Where bytes have a price, they are counted as tokens: the sent bytes as input, and the largest
/// response as output.
#[must_use]
pub fn demand(name: &str, call: &MeteredCall, sent: Option<u64>) -> Demand {
    let received = sent.map_or(0, |_| u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX));
    Demand {
        provider: Provider::named(name),
        model: call.name(),
        service: TierChoice::Auto(ServiceTier::Standard),
        input: InputBound::Tokens(sent.unwrap_or(0)),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(received),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: 0,
        may_be_us: false,
        may_hide_output: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_own_paths_and_no_others() {
        for (path, is_meant) in [
            ("/v1/forecast/berlin", true),
            ("/v1/forecast/52.5,13.4", true),
            ("/v1/forecast/", false),
            ("/v1/forecast", false),
            ("/v1/forecast/a/b", false),
            ("/v1/forecast/..", false),
            ("/v1/forecast/%2e%2e", false),
            (r"/v1/forecast/..\admin", false),
            ("/v1/Forecast/a", false),
            ("//v1/forecast/a", false),
        ] {
            assert_eq!(matches("/v1/forecast/*", path), is_meant, "{path}");
        }
        assert!(!matches("/v1/*", "/v1/*"), "a star is no plain word");
    }
}
