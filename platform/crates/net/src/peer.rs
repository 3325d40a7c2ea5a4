//! The client's address (`X-Forwarded-For`) and user agent as Caddy reports them, and the key for rate limits per
//! address.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, header};

/// The client behind Caddy, as shown in the list of sessions, the audit log and the instance's own log.
#[derive(Clone, Debug)]
pub struct Client {
    pub ip: IpAddr,
    pub user_agent: String,
}

/// Longest user agent that is kept, in characters.
const MAX_USER_AGENT: usize = 300;

impl Client {
    /// Reads the headers that Caddy set. They can be trusted: only Caddy reaches this server, over loopback.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let user_agent = last(headers, header::USER_AGENT).unwrap_or("").chars().take(MAX_USER_AGENT).collect();
        Self { ip: address(headers), user_agent }
    }
}

/// The client's address. Loopback without a header, as for a request that did not pass Caddy.
#[must_use]
pub fn address(headers: &HeaderMap) -> IpAddr {
    // The last element was added by Caddy. Those before it came from the client and can be forged.
    let list = last(headers, header::HeaderName::from_static("x-forwarded-for"));
    let added = list.and_then(|list| list.rsplit(',').next()).and_then(|added| added.trim().parse().ok());
    added.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn last(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok())
}

/// The key by which rate limits count an address: an IPv4 address, or the /64 network of an IPv6 address.
#[must_use]
pub fn limit_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        // A subscriber gets a whole /64 (RFC 6177), and could otherwise use another address for each request.
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}
