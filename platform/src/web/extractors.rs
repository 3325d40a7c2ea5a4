//! What handlers ask for by type: who is asking, from where, and with which half-finished ceremony.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::errors::Problem;
use crate::accounts::{Client, Session};
use crate::app::App;
use crate::cookies;
use crate::error::Error;
use crate::instances::Instance;

/// Longest user agent that is kept, in characters.
const USER_AGENT_LIMIT: usize = 256;

impl FromRequestParts<App> for Session {
    type Rejection = Problem;

    /// Attached by the route's access level; a route without one that asks for it shows nothing to anybody.
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::Unauthenticated.into())
    }
}

/// The instance of whoever asks: found through its owner, so that no path can name another's.
pub struct Mine(pub Arc<Instance>);

impl FromRequestParts<App> for Mine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let session = <Session as FromRequestParts<App>>::from_request_parts(parts, app).await?;
        app.instances.by_account(session.account).map(Self).ok_or_else(|| Error::NotFound.into())
    }
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(client(&parts.headers))
    }
}

/// The other end. Only Caddy reaches the platform, from loopback, and it appends the address it sees: the last
/// element of X-Forwarded-For is Caddy's word, everything before it is the client's.
pub fn client(headers: &HeaderMap) -> Client {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|line| line.to_str().ok());
    let ip = forwarded.and_then(|line| line.rsplit(',').next()).and_then(|ip| ip.trim().parse().ok());
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Client {
        ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        user_agent: user_agent.chars().take(USER_AGENT_LIMIT).collect(),
    }
}

/// The token of the ceremony that this browser is in the middle of.
pub struct Pending(pub String);

impl FromRequestParts<App> for Pending {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let token = cookies::get(&parts.headers, cookies::PENDING);
        let expired = || Error::Conflict("This page has expired. Please start again.".into());
        Ok(Self(token.ok_or_else(expired)?.to_owned()))
    }
}

impl OptionalFromRequestParts<App> for Pending {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Option<Self>, Infallible> {
        Ok(cookies::get(&parts.headers, cookies::PENDING).map(|token| Self(token.to_owned())))
    }
}

/// The token that says this browser is not new, if it has one.
pub struct Device(pub Option<String>);

impl FromRequestParts<App> for Device {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(cookies::get(&parts.headers, cookies::DEVICE).map(str::to_owned)))
    }
}

/// The host a request is for: HTTP/2 says it in the address, HTTP/1.1 in a header.
pub fn host(request: &Request) -> &str {
    let header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().host().or_else(header).unwrap_or_default()
}

/// Whether the answer is for a person: outside the API, and the request accepts HTML.
pub fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = |line: &str| line.to_ascii_lowercase().contains("text/html");
    !path.starts_with("/api/")
        && headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).any(accepts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_caddy_saw() {
        for (lines, want) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["10.0.0.1, 203.0.113.7"], "203.0.113.7"),
            (&["10.0.0.1", "2001:db8::1"], "2001:db8::1"),
            (&["nonsense"], "127.0.0.1"),
            (&[], "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            assert_eq!(client(&headers).ip.to_string(), want, "{lines:?}");
        }
    }

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
