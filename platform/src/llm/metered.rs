//! APIs other than models whose calls have a price: only those that the operator's file names are made.

use axum::http::{Method, Uri};

use super::proxy_error::Problem;
use super::upstream_path::Target;
use crate::config::{MeteredApi, MeteredCall};
use crate::quota::{CacheWrites, Demand, InputBound, Provider, Service, Tier};
use berth_providers::request::RequestError;

/// The largest answer of such an API; it is held for where bytes cost money.
pub const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
const LONGEST_PART: usize = 200;
const LONGEST_QUERY: usize = 2000;

/// A call that `api` allows: which of its calls, and where that goes.
///
/// # Errors
/// `NoSuchPath` when none of its calls is this; `RequestError` for a query that cannot be forwarded.
pub fn find<'a>(api: &'a MeteredApi, method: &Method, uri: &Uri) -> Result<(&'a MeteredCall, Target), Problem> {
    let no_such = || Problem::NoSuchPath { path: format!("{method} {}", uri.path()) };
    // Behind `/metered/NAME`.
    let path = uri.path().splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).ok_or_else(no_such)?;
    let call = api.calls.iter().find(|call| call.method == method.as_str() && matches(&call.path, &path));
    let call = call.ok_or_else(no_such)?;
    let query = uri.query().filter(|query| !query.is_empty());
    if query.is_some_and(|query| query.len() > LONGEST_QUERY || !query.bytes().all(may_be_in_a_query)) {
        let message = "The query is too long, or has characters in it that have to be percent-encoded.".into();
        return Err(Problem::Unacceptable(RequestError { field: None, message }));
    }
    Ok((call, Target::checked(path, query.map(str::to_owned))))
}

/// Whether `path` is what `pattern` means: the same parts, and any plain word for a star. As it came, not decoded: what
/// would have to be decoded is no plain word.
fn matches(pattern: &str, path: &str) -> bool {
    let is_word = |part: &str| {
        let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:,@~".contains(&b));
        plain && (1..=LONGEST_PART).contains(&part.len()) && part != "." && part != ".."
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

/// How many bytes of a body cost money. `None`: at this price none do.
#[must_use]
pub fn charged_bytes(call: &MeteredCall, body: &[u8]) -> Option<u64> {
    (call.dollars_per_million_bytes.nanodollars > 0).then(|| u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// What a call can cost: its price, and where bytes cost money as many as there may be, in the place of tokens.
#[must_use]
pub fn demand(name: &str, call: &MeteredCall, sent: Option<u64>) -> Demand {
    let received = sent.map_or(0, |_| u64::try_from(LARGEST_ANSWER).unwrap_or(u64::MAX));
    Demand {
        provider: Provider::named(name),
        model: call.name(),
        service: Service::Auto(Tier::Standard),
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
    fn a_pattern_means_its_own_paths_and_no_others() {
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
