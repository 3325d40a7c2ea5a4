//! Headers that concern one connection only and never pass a proxy (RFC 9110 7.6.1). `Trailer` is none of them: it announces
//! what comes behind the body, and without it that would be lost on the way.

use axum::http::header::{self, HeaderMap};

const ONE_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Takes out every header of one hop, and those that the sender named so in `Connection`.
pub fn drop_one_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = connection_tokens(headers).collect();
    for name in named.iter().map(String::as_str).chain(ONE_HOP) {
        headers.remove(name);
    }
}

/// Whether `Connection` names `token`, which is in lower case.
#[must_use]
pub fn connection_names(headers: &HeaderMap, token: &str) -> bool {
    connection_tokens(headers).any(|t| t == token)
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
}
