//! CSRF protection by Fetch Metadata and Origin. Instances are same-site with the app host, so SameSite cookies do not
//! protect it from their pages: an unsafe request must prove that it comes from the app's own origin.
//!
//! tower-http's `csrf` is close, but accepts a request that has neither Sec-Fetch-Site nor Origin, and one that was
//! typed into the address bar (`none`), which is never a POST. Both are refused here.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use berth_ground::error::Error;

use crate::http::prefetch::{self, is_foreign_prefetch};
use crate::http::problem::HandlerResult;

/// Refuses unsafe requests from another origin than `origin`, and requests by which a page of another origin embeds a
/// page or has it loaded ahead.
pub async fn enforce(State(origin): State<String>, request: Request, next: Next) -> HandlerResult {
    if is_foreign_prefetch(request.headers(), &origin) {
        return Err(prefetch::refusal());
    }
    if is_ours(request.method(), request.headers(), &origin) {
        Ok(next.run(request).await)
    } else {
        Err(Error::Forbidden("This request came from another site, so it was refused.".into()).into())
    }
}

fn is_ours(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    let value = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.as_bytes());
    let site = value("sec-fetch-site");
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        // A page of another origin may link here and nothing else: what it loads as a frame or by a script would run
        // with the visitor's cookie, and its time or its load event would tell whether they are logged in. Nothing of
        // ours is meant to be embedded, so no route is excepted.
        let opens_page = value("sec-fetch-mode") == Some(b"navigate") && value("sec-fetch-dest") == Some(b"document");
        return matches!(site, None | Some(b"same-origin" | b"none")) || opens_page;
    }
    // Origin `null` (a sandboxed frame, a redirect across origins) is not ours, because the comparison is with the
    // exact bytes.
    let from_us = value(header::ORIGIN.as_str()).map(|from| from == origin.as_bytes());
    match site {
        // Sec-Fetch-Site cannot be set by a script (forbidden header name), so it decides; Origin may only contradict
        // it.
        Some(b"same-origin") => from_us != Some(false),
        Some(_) => false,
        // Browsers before Fetch Metadata (Safari before 16.4) send Origin with every POST.
        None => from_us == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "https://app.example.com";

    fn check(method: &Method, pairs: &[(&'static str, &'static str)]) -> bool {
        is_ours(method, &pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect(), OURS)
    }

    #[test]
    fn only_our_own_pages_change_anything() {
        let cases: [(&[(&str, &str)], bool); 10] = [
            (&[("sec-fetch-site", "same-origin"), ("origin", OURS)], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("origin", OURS)], true),
            (&[], false),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")], false),
            (&[("sec-fetch-site", "same-site"), ("origin", OURS)], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", OURS)], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://app.example.com.evil.test")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], false),
        ];
        for (pairs, want) in cases {
            assert_eq!(check(&Method::POST, pairs), want, "{pairs:?}");
        }
    }

    #[test]
    fn a_sibling_may_link_to_us_and_embed_nothing() {
        let navigate = ("sec-fetch-mode", "navigate");
        for site in ["same-site", "cross-site"] {
            let get = |more: &[(&'static str, &'static str)]| {
                check(&Method::GET, &[&[("sec-fetch-site", site)][..], more].concat())
            };
            assert!(get(&[navigate, ("sec-fetch-dest", "document")]));
            for dest in ["iframe", "image", "empty", "video", "font", "object"] {
                assert!(!get(&[navigate, ("sec-fetch-dest", dest)]), "{dest}");
            }
            assert!(!get(&[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "document")]));
            assert!(!get(&[]));
        }
        assert!(check(&Method::GET, &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "image")]));
    }
}
