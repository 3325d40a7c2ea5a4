//! To which of the programs inside a visit leads: the one on the contract's port, or one on another port that the owner
//! opened, by a host of its own or below a path.
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

use super::refusal::EdgeRefusal;
use crate::hosts::{self, Entrance};
use crate::instances::Instance;

/// What stands before a port's number in a path.
const PORT_PATH: &str = "/_port/";

/// Which program inside a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// `None`: the contract's own.
    pub port: Option<u16>,
    /// What was taken off the path, for the program to put before its own links.
    pub prefix: Option<String>,
}

impl Program {
    /// Tells it by entrance and path, and takes the port's part off the path. `None` when the slash behind it is missing,
    /// without which a page's own links lead astray.
    pub(super) fn asked_for(
        instance: &Instance,
        entrance: &Entrance,
        target: &mut Uri,
    ) -> Result<Option<Self>, EdgeRefusal> {
        if entrance.port.is_some() || !target.path().starts_with(PORT_PATH) || !instance.has_open_ports() {
            return Ok(Some(Self { port: entrance.port, prefix: None }));
        }
        let Some((number, rest)) = split(target) else { return Err(EdgeRefusal::PortClosed) };
        let port = hosts::port_number(number).filter(|port| instance.has_open(*port)).ok_or(EdgeRefusal::PortClosed)?;
        if !rest.starts_with('/') {
            return Ok(None);
        }
        let prefix = Some(format!("{PORT_PATH}{port}"));
        *target = PathAndQuery::try_from(rest).map_err(|_| EdgeRefusal::PortClosed)?.into();
        Ok(Some(Self { port: Some(port), prefix }))
    }

    /// Where it listens.
    pub(super) fn socket(&self, instance: &Instance) -> SocketAddr {
        match self.port {
            Some(port) => SocketAddr::from((instance.address(), port)),
            None => instance.socket(),
        }
    }
}

/// `/_port/3000/x?y` as `3000` and `/x?y`.
fn split(target: &Uri) -> Option<(&str, &str)> {
    let below = target.path_and_query()?.as_str().strip_prefix(PORT_PATH)?;
    Some(below.split_at(below.find(['/', '?']).unwrap_or(below.len())))
}

/// To the same address with a slash behind the port.
pub(super) fn with_slash(target: &Uri) -> Response {
    let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
    let to = format!("{}/{query}", target.path());
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
