//! The other end of a connection, as Caddy reports it.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, header};

/// Who is on the other end, for the list of sessions, the audit, the limits, and the instance's own log.
#[derive(Clone, Debug)]
pub struct Client {
    pub ip: IpAddr,
    pub user_agent: String,
}

/// Longest user agent that is kept, in characters.
const USER_AGENT: usize = 300;

impl Client {
    /// Reads what Caddy wrote. Only Caddy reaches us, over loopback, and it replaces whatever the client sent; the last
    /// element is the one it added itself.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let user_agent = last(headers, header::USER_AGENT).unwrap_or("").chars().take(USER_AGENT).collect();
        Self { ip: address(headers), user_agent }
    }
}

/// The address alone, by the same rule.
#[must_use]
pub fn address(headers: &HeaderMap) -> IpAddr {
    let list = last(headers, header::HeaderName::from_static("x-forwarded-for"));
    let added = list.and_then(|list| list.rsplit(',').next()).and_then(|added| added.trim().parse().ok());
    added.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn last(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok())
}

/// Who is counted as one when tries are limited: an IPv4 address, or an IPv6 /64, which one household gets whole.
#[must_use]
pub fn limit_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}
