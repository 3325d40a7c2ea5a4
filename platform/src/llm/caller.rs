//! Who calls: the instance whose token came, only from that instance's own address, and while it may make calls.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use tokio::sync::watch;

use super::problem::Problem;
use crate::app::App;
use crate::instances::{Instance, InstanceStatus, Wish};
use crate::secrets;

/// The instance that `headers` prove to be the caller. Official SDKs bring the token as `Authorization: Bearer`, as
/// `x-api-key`, or as both, which must then be the same.
///
/// # Errors
/// `BadToken`; `MayNotCall` when the instance is suspended or removed, although its container still runs.
pub fn caller(app: &App, headers: &HeaderMap, peer: SocketAddr) -> Result<Arc<Instance>, Problem> {
    let instance = proven(app, headers, peer).ok_or(Problem::BadToken)?;
    let wish = instance.status().wish;
    if may_call(wish) { Ok(instance) } else { Err(Problem::MayNotCall { wish }) }
}

/// Comes true when the instance that `status` tells of may make no calls any more.
pub async fn until_refused(mut status: watch::Receiver<InstanceStatus>) {
    // An error: the instance is forgotten, and may call no more either.
    let _ = status.wait_for(|status| !may_call(status.wish)).await;
}

fn may_call(wish: Wish) -> bool {
    !wish.is_closed()
}

fn proven(app: &App, headers: &HeaderMap, peer: SocketAddr) -> Option<Arc<Instance>> {
    let instance = app.instances.by_token_hash(&secrets::hash(token(headers)?))?;
    // A token that leaked out of its container is worth nothing elsewhere.
    let at_home = peer.ip().to_canonical() == IpAddr::V4(instance.address());
    if !at_home {
        tracing::warn!(instance.id = %instance.id, peer = %peer.ip(), "an instance token came from a foreign address");
    }
    at_home.then_some(instance)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Some(None),
            (Some(value), None) => value.to_str().ok().map(Some),
            _ => None,
        }
    };
    let bearer = match only(header::AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => {
            let (scheme, token) = value.split_once(' ')?;
            Some(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())?)
        }
    };
    match (bearer, only("x-api-key")?) {
        (Some(a), Some(b)) => (a == b).then_some(a),
        (one, other) => one.or(other),
    }
    .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_comes_in_either_header_or_the_same_in_both() {
        for (pairs, expected) in [
            (&[("authorization", "Bearer a")][..], Some("a")),
            (&[("authorization", "bearer a")], Some("a")),
            (&[("x-api-key", "a")], Some("a")),
            (&[("authorization", "Bearer a"), ("x-api-key", "a")], Some("a")),
            (&[("authorization", "Bearer a"), ("x-api-key", "b")], None),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], None),
            (&[("authorization", "Basic a")], None),
            (&[("x-api-key", "")], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(token(&headers), expected, "{pairs:?}");
        }
    }
}
