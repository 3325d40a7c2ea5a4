//! The signed identity assertion (`X-Berth-Assertion`): a short-lived HMAC-SHA-256 token by which the program inside
//! the instance verifies the visitor's identity.
//!
//! A signature is cached for one second and shared by all requests with the same visitor and instance.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_ground::clock::Timestamp;
use berth_ground::handle::Handle;
use berth_ground::secrets;
use serde_json::json;

use crate::db::InstanceId;
use crate::instances::Instance;

/// How long an assertion is valid.
const VALID_SECONDS: i64 = 60;

/// The cache of the current second's assertions: for each instance, the last one signed.
#[derive(Default)]
pub(super) struct AssertionCache(Mutex<AssertionsOfOneSecond>);

#[derive(Default)]
struct AssertionsOfOneSecond {
    until: i64,
    last: HashMap<InstanceId, CachedAssertion>,
}

struct CachedAssertion {
    user: Option<Handle>,
    token_hash: Vec<u8>,
    header: HeaderValue,
}

impl AssertionCache {
    /// The assertion of the visitor's handle, or of an anonymous visitor where `user` is `None`: `v1.PAYLOAD.MAC`,
    /// payload and MAC in base64url. The MAC is HMAC-SHA-256 of `v1.PAYLOAD`; its key is the SHA-256 of the instance
    /// token, which only the instance and the platform know.
    pub(super) fn of(&self, instance: &Instance, user: Option<&Handle>, now: Timestamp) -> HeaderValue {
        let (until, token_hash) = (now.seconds() + VALID_SECONDS, instance.token_hash().unwrap_or_default());
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The whole map is replaced each second, so the cache never holds more than the instances visited in one
        // second.
        if cache.until != until {
            *cache = AssertionsOfOneSecond { until, last: HashMap::new() };
        }
        // The key is compared too: an instance whose container was replaced within this second has a new token.
        if let Some(last) = cache.last.get(&instance.id)
            && last.user.as_ref() == user
            && last.token_hash == token_hash
        {
            return last.header.clone();
        }
        let header = sign(instance.id, user, until, &token_hash);
        cache.last.insert(instance.id, CachedAssertion { user: user.cloned(), token_hash, header: header.clone() });
        header
    }
}

fn sign(instance: InstanceId, user: Option<&Handle>, until: i64, token_hash: &[u8]) -> HeaderValue {
    // The payload names the instance, so that an assertion cannot be replayed at another instance. The keys differ per
    // instance as well: either check alone would do.
    let payload = json!({ "user": user, "instance": instance, "until": until }).to_string();
    let signed = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload));
    let mac = secrets::mac(token_hash, signed.as_bytes());
    let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
    HeaderValue::from_str(&text).expect("dots and base64url are header text")
}
