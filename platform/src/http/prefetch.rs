//! Speculative loading: requests that a browser sends before the person opens the page (prefetch and prerender).

use axum::http::HeaderMap;

/// Whether a browser prefetches this URL before the person opens it. `Sec-Purpose` is the standard header (Fetch
/// Standard); older browsers sent the others.
#[must_use]
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        headers
            .get(*name)
            .is_some_and(|value| [&b"prefetch"[..], b"preview"].iter().any(|w| value.as_bytes().starts_with(w)))
    })
}
