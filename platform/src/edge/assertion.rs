//! The signed identity assertion (`X-Berth-Assertion`), by which the program inside can tell who visits from a forgery.
//!
//! Signed with HMAC-SHA-256. One signature serves all requests of a second that have the same visitor and instance.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::Timestamp;
use crate::db::InstanceId;
use crate::handle::Handle;
use crate::instances::Instance;
use crate::secrets;

/// How long an assertion is valid.
const VALID_SECONDS: i64 = 60;

/// The assertions of the current second: for each instance the one that was signed last.
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
    /// The assertion that `user` visits, or that the visitor is not known: `v1.PAYLOAD.MAC`, both base64url. The MAC is
    /// HMAC-SHA-256 of `v1.PAYLOAD`; its key is the SHA-256 of the instance token, which only the instance and we know.
    pub(super) fn of(&self, instance: &Instance, user: Option<&Handle>, now: Timestamp) -> HeaderValue {
        let (until, token_hash) = (now.seconds() + VALID_SECONDS, instance.token_hash().unwrap_or_default());
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Replaced as a whole, so the cache is never larger than the instances that were visited within one second.
        if cache.until != until {
            *cache = AssertionsOfOneSecond { until, last: HashMap::new() };
        }
        // The key is compared too: an instance that got a new container within this second has a new token.
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
    // The payload names the instance, so that one instance cannot replay the assertion at another; the keys differ as
    // well.
    let payload = json!({ "user": user, "instance": instance, "until": until }).to_string();
    let signed = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload));
    let mac = secrets::mac(token_hash, signed.as_bytes());
    let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
    HeaderValue::from_str(&text).expect("dots and base64url are header text")
}
