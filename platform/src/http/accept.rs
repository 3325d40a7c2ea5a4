//! Content negotiation (RFC 9110 12): whether the client is a browser or a program, by its Accept header.

use axum::http::{HeaderMap, header};

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
