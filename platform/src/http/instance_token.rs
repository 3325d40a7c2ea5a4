//! Instance tokens: the bearer tokens by which programs inside an instance authenticate.
//!
//! The quota proxy (`llm`) and the instance API (`instance_api`) both use it, and import nothing of each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use berth_ground::secrets;
use tokio::sync::watch;

use crate::instances::{Instance, InstanceStatus, Instances, Wish};

/// Why authentication failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// No token, an unknown token, or a token from another address than its instance's.
    Invalid,
    /// The instance is suspended or removed, although its container still runs.
    Closed { wish: Wish },
}

/// Authenticates a caller by its token and its network address, and returns its instance.
///
/// Official SDKs send the token as `Authorization: Bearer`, as `x-api-key`, or as both, which must then be equal.
///
/// # Errors
/// See [`TokenError`].
pub fn authenticate(instances: &Instances, headers: &HeaderMap, peer: SocketAddr) -> Result<Arc<Instance>, TokenError> {
    let instance = token(headers).and_then(|token| instances.by_token_hash(&secrets::hash(token)));
    let instance = instance.filter(|instance| is_at_home(instance, peer)).ok_or(TokenError::Invalid)?;
    let wish = instance.status().wish;
    if may_call(wish) { Ok(instance) } else { Err(TokenError::Closed { wish }) }
}

/// Completes when the instance of `status` is no longer allowed to call: it was suspended, is leaving, or was removed.
pub async fn until_revoked(mut status: watch::Receiver<InstanceStatus>) {
    // An error means that the instance was deleted, so it may not call either.
    let _ = status.wait_for(|status| !may_call(status.wish)).await;
}

fn may_call(wish: Wish) -> bool {
    !wish.is_closed()
}

/// Whether `peer` is the instance's own address: a token that leaked from its container is useless elsewhere.
fn is_at_home(instance: &Instance, peer: SocketAddr) -> bool {
    // A dual-stack listener reports IPv4 peers as `::ffff:a.b.c.d`.
    let is_at_home = peer.ip().to_canonical() == IpAddr::V4(instance.address());
    if !is_at_home {
        tracing::warn!(instance.id = %instance.id, peer = %peer.ip(), "an instance token came from a foreign address");
    }
    is_at_home
}

/// The token in `headers`. `None` also when several differ, because two parsers could choose differently.
fn token(headers: &HeaderMap) -> Option<&str> {
    let single = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Some(None),
            (Some(value), None) => value.to_str().ok().map(Some),
            _ => None,
        }
    };
    let bearer = match single(header::AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => {
            let (scheme, token) = value.split_once(' ')?;
            Some(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())?)
        }
    };
    match (bearer, single("x-api-key")?) {
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
