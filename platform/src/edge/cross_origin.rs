//! Whether a request may come from where it comes from. Other tenants' pages are same-site: their requests carry the
//! owner's cookie whatever its SameSite says, so the browser's own word on the origin decides.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

/// Whether it is what the instance's own pages send, or what a person types or follows, and nothing else.
pub(super) fn comes_from_here(parts: &Parts, origin: &str) -> bool {
    may_pass(&parts.method, &parts.headers, origin)
}

/// Whether it asks for something to look at, and changes nothing.
pub(super) fn only_looks(parts: &Parts) -> bool {
    reads(&parts.method, &parts.headers)
}

fn may_pass(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let reads = reads(method, headers);
    match text("sec-fetch-site") {
        Some("same-origin") => true,
        // Typed, bookmarked, or opened from outside the browser.
        Some("none") => reads,
        // A link followed from elsewhere: a whole document in its own window, and only to look.
        Some(_) => reads && text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document"),
        // Not a browser of these years. A wrong Origin is refused; none at all only when something could change.
        None => match headers.get(header::ORIGIN) {
            Some(from) => from.as_bytes() == origin.as_bytes(),
            None => reads,
        },
    }
}

fn reads(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_tenant_can_do_nothing_with_the_owners_cookie() {
        const OWN: &str = "https://alice.example.com";
        for (sentence, method, headers, passes) in [
            ("the instance's own script", "POST", &[("sec-fetch-site", "same-origin")][..], true),
            (
                "a sibling's form",
                "POST",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                false,
            ),
            (
                "a sibling's script tag",
                "GET",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
                false,
            ),
            (
                "a sibling's frame",
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
                "a sibling's WebSocket",
                "GET",
                &[("sec-fetch-site", "same-site"), ("upgrade", "websocket"), ("origin", "https://evil.example.com")],
                false,
            ),
            (
                "an old browser's WebSocket from a sibling",
                "GET",
                &[("upgrade", "websocket"), ("origin", "https://evil.example.com")],
                false,
            ),
            ("its own WebSocket", "GET", &[("upgrade", "websocket"), ("origin", OWN)], true),
            ("a program that reads", "GET", &[], true),
            ("a program that writes and says where from", "POST", &[("origin", OWN)], true),
            ("a program that writes and says nothing", "POST", &[], false),
            ("an opaque origin", "POST", &[("origin", "null")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            assert_eq!(may_pass(&method.parse().unwrap(), &map, OWN), passes, "{sentence}");
        }
    }
}
