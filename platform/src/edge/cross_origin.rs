//! Protection against cross-site request forgery (CSRF), by fetch metadata (`Sec-Fetch-*`) and the `Origin` header.
//!
//! `SameSite` cookies do not help here: the hosts of all tenants are the same site, so a page of one tenant's instance
//! sends the cookie of another's owner along. The origin that the browser states decides instead.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

/// Whether the visitor's session may be used for this request: the request comes from the instance's own pages, or is a
/// top-level navigation by the user (a typed address or a link).
pub(super) fn is_allowed(parts: &Parts, origin: &str) -> bool {
    may_pass(&parts.method, &parts.headers, origin)
}

/// Whether a page of another origin made this request, so that it is refused on everything that is not public. About a
/// program that states no origin at all, the visitor's session decides.
pub(super) fn is_foreign(parts: &Parts, origin: &str) -> bool {
    let states_where_from = parts.headers.contains_key("sec-fetch-site") || parts.headers.contains_key(header::ORIGIN);
    states_where_from && !is_allowed(parts, origin)
}

/// Whether a request has a safe method (RFC 9110 9.2.1) and asks for no protocol upgrade.
pub(super) fn is_read_only(parts: &Parts) -> bool {
    reads_only(&parts.method, &parts.headers)
}

fn may_pass(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let reads_only = reads_only(method, headers);
    match text("sec-fetch-site") {
        Some("same-origin") => true,
        // Not sent by any page: typed, a bookmark, or opened from another program.
        Some("none") => reads_only,
        // A link on another site (same-site or cross-site). Only a top-level navigation: in a frame, the page could be
        // clickjacked, and as a script or an image its content could leak.
        Some(_) => {
            reads_only && text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document")
        }
        // A browser from before 2023 or a program. A foreign Origin is refused; a missing one only if the request could
        // change something, because browsers do not send it with a plain GET.
        None => match headers.get(header::ORIGIN) {
            Some(from) => from.as_bytes() == origin.as_bytes(),
            None => reads_only,
        },
    }
}

// A WebSocket opens with a GET, is not subject to CORS, and can change anything: it never counts as read-only.
fn reads_only(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_tenants_page_can_do_nothing_with_the_owners_cookie() {
        const OWN: &str = "https://alice.example.com";
        for (case, method, headers, passes) in [
            ("the instance's own script", "POST", &[("sec-fetch-site", "same-origin")][..], true),
            (
                "another tenant's form",
                "POST",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                false,
            ),
            (
                "another tenant's script tag",
                "GET",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
                false,
            ),
            (
                "another tenant's frame",
                "GET",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                false,
            ),
            (
                "a link on another site",
                "GET",
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                true,
            ),
            ("typed into the address bar", "GET", &[("sec-fetch-site", "none")], true),
            (
                "another tenant's WebSocket",
                "GET",
                &[("sec-fetch-site", "same-site"), ("upgrade", "websocket"), ("origin", "https://evil.example.com")],
                false,
            ),
            (
                "an old browser's WebSocket from another tenant",
                "GET",
                &[("upgrade", "websocket"), ("origin", "https://evil.example.com")],
                false,
            ),
            ("its own WebSocket", "GET", &[("upgrade", "websocket"), ("origin", OWN)], true),
            ("a program that reads", "GET", &[], true),
            ("a program that writes and states its origin", "POST", &[("origin", OWN)], true),
            ("a program that writes and states none", "POST", &[], false),
            ("an opaque origin", "POST", &[("origin", "null")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            assert_eq!(may_pass(&method.parse().unwrap(), &map, OWN), passes, "{case}");
        }
    }
}
