//! Speculative loading: requests that a browser sends before the person opens the page (prefetch and prerender).

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;

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

/// Whether a page of another origin than `origin` had the browser load this address ahead. The Referer decides, because
/// Chromium sends what a sibling's page prefetches with the visitor's cookies and with `Sec-Fetch-Site: none`, as if it
/// had been typed.
#[must_use]
pub fn is_foreign_prefetch(headers: &HeaderMap, origin: &str) -> bool {
    let referrer = headers.get(header::REFERER).and_then(|referrer| referrer.to_str().ok()).unwrap_or_default();
    let is_own = referrer.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_prefetch(headers) && !is_own
}

/// The refusal of a foreign prefetch. A browser discards a prefetch that failed, and loads the page when it is opened.
#[must_use]
pub fn refusal() -> Problem {
    let detail = "Pages of other sites cannot have this address loaded ahead. Open it to see it.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "prefetch", "Not loaded ahead", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_origins_own_pages_may_have_it_loaded_ahead() {
        const OWN: &str = "https://alice.example.com";
        for (purpose, referrer, foreign) in [
            ("prefetch", "https://alice.example.com/", false),
            ("prefetch;prerender", "https://alice.example.com", false),
            ("prefetch", "", true),
            ("prefetch", "https://evil.example.com/", true),
            ("prefetch;prerender", "https://alice.example.com.evil.test/", true),
            ("prefetch;anonymous-client-ip", "https://alice.example.com:8443/", true),
            ("", "https://evil.example.com/", false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("sec-purpose", purpose), ("referer", referrer)] {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(is_foreign_prefetch(&headers, OWN), foreign, "{purpose} {referrer}");
        }
    }
}
