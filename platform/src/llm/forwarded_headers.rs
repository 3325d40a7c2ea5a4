//! Header filters for both directions of a provider call: an allow list towards the provider, deny lists towards the
//! instance.

use axum::http::{HeaderMap, HeaderValue};
use berth_net::hop_by_hop;

/// The request headers that are forwarded. An allow list, so that neither the tenant and its network nor unknown
/// The request headers that are forwarded. An allow list, so that neither identity nor network of the tenant nor
/// unknown features reach the provider.
const FORWARDED: &[&str] = &["content-type", "accept", "user-agent", "openai-beta"];
/// Prefixes of forwarded headers: SDK telemetry, and Anthropic's own headers, which accompany fields of the body.
const FORWARDED_PREFIXES: &[&str] = &["anthropic-", "x-stainless-", "x-claude-code-"];
/// Exceptions to the prefixes: these would select another customer of the provider.
const NOT_FORWARDED: &[&str] = &["anthropic-user-profile-id", "anthropic-workspace-id"];

/// Response headers that would affect another origin, or are set anew.
const NOT_RETURNED: &[&str] = &["content-length", "trailer", "set-cookie", "alt-svc"];
/// Response headers that identify the platform's account at the provider.
const PLATFORM_ACCOUNT: &[&str] =
    &["anthropic-organization-id", "anthropic-workspace-id", "openai-organization", "openai-project"];
/// Prefixes of response headers with the rate limits of the platform's key.
const PLATFORM_LIMITS: &[&str] = &["anthropic-ratelimit-", "anthropic-priority-", "x-ratelimit-"];
/// An exception: the limits of a subscription, which Claude Code shows to its user.
const RETURNED_PREFIX: &str = "anthropic-ratelimit-unified-";

/// The headers of a request that go on to the provider.
#[must_use]
pub fn to_provider(headers: HeaderMap) -> HeaderMap {
    without(headers, |name| {
        let is_known = FORWARDED.contains(&name) || FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        !is_known || NOT_FORWARDED.contains(&name)
    })
}

/// The headers of a response under the platform's key that go on to the instance.
#[must_use]
pub fn to_instance(headers: HeaderMap) -> HeaderMap {
    without(headers, |name| {
        let is_limit = PLATFORM_LIMITS.iter().any(|prefix| name.starts_with(prefix));
        let is_private = PLATFORM_ACCOUNT.contains(&name) || (is_limit && !name.starts_with(RETURNED_PREFIX));
        NOT_RETURNED.contains(&name) || is_private
    })
}

/// The headers of a response under the caller's own key. The account that they describe is the caller's.
#[must_use]
pub fn to_key_owner(headers: HeaderMap) -> HeaderMap {
    without(headers, |name| NOT_RETURNED.contains(&name))
}

fn without(mut headers: HeaderMap, is_removed: impl Fn(&str) -> bool) -> HeaderMap {
    // Read before anything is removed: `Connection` names further hop-by-hop headers (RFC 9110 section 7.6.1).
    let is_hop_by_hop = hop_by_hop::is_hop_by_hop(&headers);
    hop_by_hop::remove_where(&mut headers, |name| is_removed(name) || is_hop_by_hop(name));
    headers
}

/// Removes the long context (a million tokens) from `anthropic-beta`, for a model that has a price only without it.
pub fn remove_long_context(headers: &mut HeaderMap) {
    const BETA: &str = "anthropic-beta";
    // The header may be repeated, each time with a list.
    let values = headers.get_all(BETA).iter().map(|value| value.to_str().unwrap_or_default());
    let (long, kept): (Vec<&str>, Vec<&str>) =
        values.flat_map(|value| value.split(',')).map(str::trim).partition(|beta| beta.starts_with("context-1m"));
    if long.is_empty() {
        return;
    }
    // One header with the rest of all lists; none if the rest is empty.
    let kept = HeaderValue::from_str(&kept.join(","));
    headers.remove(BETA);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(BETA, kept);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(names: &[&'static str]) -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x-named"))).collect()
    }

    #[test]
    fn the_long_context_is_held_back_and_the_other_betas_are_not() {
        let mut headers = HeaderMap::new();
        for value in ["a-1, context-1m-2025-08-07", "b-2"] {
            headers.append("anthropic-beta", HeaderValue::from_static(value));
        }
        remove_long_context(&mut headers);
        assert_eq!(headers.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a-1,b-2"]);
        headers.insert("anthropic-beta", HeaderValue::from_static("context-1m-2025-08-07"));
        remove_long_context(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn headers_that_describe_the_platforms_account_are_not_returned() {
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
        let mut names: Vec<String> = to_instance(answered.clone()).keys().map(ToString::to_string).collect();
        names.sort_unstable();
        let returned =
            ["anthropic-ratelimit-unified-5h-status", "content-type", "request-id", "retry-after", "x-should-retry"];
        assert_eq!(names, returned);
        // An answer to the caller's own key describes the caller's account, and loses only headers that affect another
        // origin.
        let own = to_key_owner(answered.clone());
        assert_eq!(own.len(), answered.len() - 2);
        assert!(!own.contains_key("set-cookie") && own.contains_key("x-ratelimit-limit-requests"));
    }
}
