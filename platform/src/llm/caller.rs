//! Who calls: the instance whose token came, and only from that instance's own address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, header};

use crate::app::App;
use crate::instances::Instance;
use crate::secrets;

/// The instance that `headers` prove to be the caller. Official SDKs bring the token as `Authorization: Bearer`, as
/// `x-api-key`, or as both, which must then be the same.
pub fn caller(app: &App, headers: &HeaderMap, peer: SocketAddr) -> Option<Arc<Instance>> {
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
