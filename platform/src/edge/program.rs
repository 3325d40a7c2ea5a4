//! Port routing: selects the program inside the instance that a request is for. Either the program on the contract's
//! port, or one on a further port that the owner opened, reached by a host of its own or below a path.
//!
//! ```text
//! https://alice.example.com/x              /x of the instance's own port
//! https://3000--alice.example.com/x        /x of port 3000: another origin, with a session of its own
//! https://alice.example.com/_port/3000/x   /x of port 3000, with X-Forwarded-Prefix: /_port/3000
//! ```

use std::net::SocketAddr;

use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use berth_net::hosts::{self, VirtualHost};

use super::refusal::EdgeRefusal;
use crate::instances::Instance;

/// The prefix of paths that name a port.
const PORT_PREFIX: &str = "/_port/";

/// The program inside an instance to which a request is routed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// `None` for the program on the contract's port.
    pub port: Option<u16>,
    /// The prefix that was stripped from the path. Sent as `X-Forwarded-Prefix`; the program puts it before its links.
    pub prefix: Option<String>,
}

impl Program {
    /// Routes by virtual host and path, and strips the port's prefix from `target`. Returns `None` when the slash after
    /// the port is missing: relative links of a page at `/_port/3000` would resolve to `/_port/`.
    ///
    /// # Errors
    /// When the port is not open.
    pub(super) fn requested(
        instance: &Instance,
        virtual_host: &VirtualHost,
        target: &mut Uri,
    ) -> Result<Option<Self>, EdgeRefusal> {
        // While no port is open, `/_port/` is an ordinary path of the instance's own program.
        if virtual_host.port.is_some() || !target.path().starts_with(PORT_PREFIX) || !instance.has_open_ports() {
            return Ok(Some(Self { port: virtual_host.port, prefix: None }));
        }
        let Some((number, rest)) = split(target) else { return Err(EdgeRefusal::PortClosed) };
        let port = hosts::port_number(number).filter(|port| instance.has_open(*port)).ok_or(EdgeRefusal::PortClosed)?;
        if !rest.starts_with('/') {
            return Ok(None);
        }
        let prefix = Some(format!("{PORT_PREFIX}{port}"));
        *target = PathAndQuery::try_from(rest).map_err(|_| EdgeRefusal::PortClosed)?.into();
        Ok(Some(Self { port: Some(port), prefix }))
    }

    /// The address and port on which the program listens.
    pub(super) fn socket(&self, instance: &Instance) -> SocketAddr {
        match self.port {
            Some(port) => SocketAddr::from((instance.address(), port)),
            None => instance.socket(),
        }
    }
}

/// Splits `/_port/3000/x?y` into `3000` and `/x?y`.
fn split(target: &Uri) -> Option<(&str, &str)> {
    let below = target.path_and_query()?.as_str().strip_prefix(PORT_PREFIX)?;
    Some(below.split_at(below.find(['/', '?']).unwrap_or(below.len())))
}

/// Redirects to the same address with a slash after the port.
pub(super) fn redirect_with_slash(target: &Uri) -> Response {
    let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
    let to = format!("{}/{query}", target.path());
    // 308 keeps method and body, where 301 lets browsers turn a POST into a GET (RFC 9110 15.4.2). Not cached, because
    // the owner may close the port.
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to), (header::CACHE_CONTROL, "no-store".into())])
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_behind_the_port() {
        for (target, parts) in [
            ("/_port/3000/a/b?c=/d", Some(("3000", "/a/b?c=/d"))),
            ("/_port/3000/", Some(("3000", "/"))),
            ("/_port/3000", Some(("3000", ""))),
            ("/_port/3000?a/b", Some(("3000", "?a/b"))),
            ("/_port//x", Some(("", "/x"))),
            ("/_ports/3000/", None),
        ] {
            assert_eq!(split(&target.parse().unwrap()), parts, "{target}");
        }
    }
}
