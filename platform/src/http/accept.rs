//! Content negotiation (RFC 9110 12): whether the client is a browser or a program, by its Accept header.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

/// Whether the request accepts HTML. Browsers name `text/html`; programs send `*/*` or nothing.
#[must_use]
pub fn accepts_html(headers: &HeaderMap) -> bool {
    let html = |line: &str| line.to_ascii_lowercase().contains("text/html");
    headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).any(html)
}

/// Whether an error is rendered as a page: for browsers, except below `/api/`.
pub fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    // A browser that opens an address of the API still gets JSON.
    !path.starts_with("/api/") && accepts_html(headers)
}

/// Whether a browser opens a page with this request. If so, refusals and waiting are shown as pages; all other requests
/// get problem+json, or are held.
///
/// Narrower than "accepts HTML". A submitted form is held until the instance is awake, because a waiting page in its
/// place would lose its body. A frame, an image or a script's fetch is held too, because it would not show a page.
#[must_use]
pub fn opens_page(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.headers.get("sec-fetch-dest").is_none_or(|dest| dest == "document")
        && accepts_html(&parts.headers)
        && !parts.headers.contains_key("upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_pages_and_programs_get_problems() {
        for (path, accept, want) in [
            ("/", "text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("/", "*/*", false),
            ("/log-in", "application/json", false),
            ("/api/account", "text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_page(path, &headers), want, "{path} {accept}");
        }
    }
}
