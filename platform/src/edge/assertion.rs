//! The signed word on who visits, which the program inside can tell from a forgery. Each is made once for all requests of
//! its second.

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

/// How long an assertion holds.
const SECONDS: i64 = 60;

/// Those of the present second: of each instance the one that was made last.
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
    /// Who visits, or that nobody known does: `v1.PAYLOAD.MAC`, both base64url, the MAC being HMAC-SHA-256 of `v1.PAYLOAD`
    /// with the SHA-256 of the instance token as key, which only the instance and we know.
    pub(super) fn of(&self, instance: &Instance, user: Option<&Handle>, now: Timestamp) -> HeaderValue {
        let (until, token_hash) = (now.seconds() + SECONDS, instance.token_hash().unwrap_or_default());
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.until != until {
            *made = AssertionsOfOneSecond { until, last: HashMap::new() };
        }
        if let Some(last) = made.last.get(&instance.id)
            && last.user.as_ref() == user
            && last.token_hash == token_hash
        {
            return last.header.clone();
        }
        let header = sign(instance.id, user, until, &token_hash);
        made.last.insert(instance.id, CachedAssertion { user: user.cloned(), token_hash, header: header.clone() });
        header
    }
}

fn sign(instance: InstanceId, user: Option<&Handle>, until: i64, token_hash: &[u8]) -> HeaderValue {
    let payload = json!({ "user": user, "instance": instance, "until": until }).to_string();
    let signed = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload));
    let mac = secrets::mac(token_hash, signed.as_bytes());
    let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
    HeaderValue::from_str(&text).expect("dots and base64url are header text")
}
