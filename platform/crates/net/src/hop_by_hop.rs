//! Hop-by-hop headers: those that apply to a single connection, which a proxy must not forward (RFC 9110 7.6.1).

use axum::http::header::{self, HeaderMap, HeaderName};

/// `Proxy-Connection` is in no RFC, but clients send it. `Trailer` is absent on purpose: it announces trailer fields,
/// which hyper would drop without it.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Removes every hop-by-hop header, including those that the sender lists in `Connection`.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let is_hop_by_hop = is_hop_by_hop(headers);
    remove_where(headers, is_hop_by_hop);
}

/// A predicate for the hop-by-hop names among `headers`, including those that the sender lists in `Connection`.
pub fn is_hop_by_hop(headers: &HeaderMap) -> impl Fn(&str) -> bool + use<> {
    // Order: read before any removal, because `Connection` is itself hop-by-hop.
    let named: Vec<String> = connection_tokens(headers).collect();
    move |name| HOP_BY_HOP.contains(&name) || named.iter().any(|named| named == name)
}

/// Removes every header that `is_removed` selects by name.
pub fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    // One pass over the present headers, usually about ten, costs less than a lookup for each name on a list. The map
    // cannot change while it is iterated, so the few names to remove are collected first.
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// Whether `Connection` lists `token`, given in lower case.
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
