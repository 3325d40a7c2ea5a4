//! Headers that concern one connection only and never pass a proxy (RFC 9110 7.6.1). `Trailer` is none of them: it announces
//! what comes behind the body, and without it that would be lost on the way.

use axum::http::header::{self, HeaderMap, HeaderName};

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
    let is_one_hop = is_one_hop(headers);
    drop_where(headers, is_one_hop);
}

/// Which of `headers` are of one hop, or named so by their sender.
pub fn is_one_hop(headers: &HeaderMap) -> impl Fn(&str) -> bool + use<> {
    let named: Vec<String> = connection_tokens(headers).collect();
    move |name| ONE_HOP.contains(&name) || named.iter().any(|named| named == name)
}

/// Takes out every header whose name `leaves`. Few do: looking at what is there is less work than looking for each that may be.
pub fn drop_where(headers: &mut HeaderMap, leaves: impl Fn(&str) -> bool) {
    let leaving: Vec<HeaderName> = headers.keys().filter(|name| leaves(name.as_str())).cloned().collect();
    for name in leaving {
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
