//! Assertion verification: checks `X-Berth-Assertion`, the platform's signed statement of the visitor's identity
//! (README.md, "The assertion"). Any client that reaches this port can set `X-Berth-User`; only the platform and this
//! container know the key of an assertion.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the header.
pub const HEADER: &str = "x-berth-assertion";

/// The result of the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionVerdict {
    Valid,
    Missing,
    Invalid,
}

/// The HMAC key of assertions to this container: the SHA-256 of its token.
pub struct AssertionKey([u8; 32]);

#[derive(Deserialize)]
struct AssertionPayload {
    /// `null` for a visitor who is not logged in.
    user: Option<String>,
    /// Unix time in seconds.
    until: u64,
}

impl AssertionKey {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether `assertion` states, at `now` in Unix seconds, the same user as the header `X-Berth-User`.
    pub fn verdict(&self, assertion: Option<&str>, user: Option<&str>, now: u64) -> AssertionVerdict {
        match assertion {
            None => AssertionVerdict::Missing,
            Some(text) => match self.read(text) {
                Some(payload) if payload.user.as_deref() == user && payload.until >= now => AssertionVerdict::Valid,
                _ => AssertionVerdict::Invalid,
            },
        }
    }

    /// The payload, if its signature is valid.
    fn read(&self, text: &str) -> Option<AssertionPayload> {
        let (signed, mac) = text.rsplit_once('.')?;
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        hmac.update(signed.as_bytes());
        // Constant-time comparison: one that ends at the first wrong byte would let a neighbour find the MAC byte by
        // byte.
        hmac.verify_slice(&URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(signed.strip_prefix("v1.")?).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(token: &str, version: &str, payload: &str) -> String {
        let signed = format!("{version}.{}", URL_SAFE_NO_PAD.encode(payload));
        let mut hmac = Hmac::<Sha256>::new_from_slice(&AssertionKey::of(token).0).unwrap();
        hmac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac.finalize().into_bytes()))
    }

    #[test]
    fn only_an_unexpired_assertion_of_this_user_is_valid() {
        let key = AssertionKey::of("the token");
        let good = signed("the token", "v1", r#"{"user":"alice","instance":"i","until":1000}"#);
        let (body, mac) = good.rsplit_once('.').unwrap();
        let forged = format!("v1.{}.{mac}", URL_SAFE_NO_PAD.encode(r#"{"user":"alice","until":9999}"#));
        for (sentence, assertion, now, verdict) in [
            ("as it was signed", Some(good.clone()), 990, AssertionVerdict::Valid),
            ("in its last second", Some(good.clone()), 1000, AssertionVerdict::Valid),
            ("too late", Some(good.clone()), 1001, AssertionVerdict::Invalid),
            ("none", None, 990, AssertionVerdict::Missing),
            ("empty", Some(String::new()), 990, AssertionVerdict::Invalid),
            ("without its signature", Some(body.to_owned()), 990, AssertionVerdict::Invalid),
            ("with another's signature", Some(forged), 990, AssertionVerdict::Invalid),
            ("cut short", Some(good[..good.len() - 4].to_owned()), 990, AssertionVerdict::Invalid),
            (
                "by another token",
                Some(signed("another", "v1", r#"{"user":"alice","until":1000}"#)),
                990,
                AssertionVerdict::Invalid,
            ),
            (
                "on another user",
                Some(signed("the token", "v1", r#"{"user":"bob","until":1000}"#)),
                990,
                AssertionVerdict::Invalid,
            ),
            (
                "of another version",
                Some(signed("the token", "v2", r#"{"user":"alice","until":1000}"#)),
                990,
                AssertionVerdict::Invalid,
            ),
            ("with no end", Some(signed("the token", "v1", r#"{"user":"alice"}"#)), 990, AssertionVerdict::Invalid),
        ] {
            assert_eq!(key.verdict(assertion.as_deref(), Some("alice"), now), verdict, "{sentence}");
        }
        // An anonymous visitor and a user are never confused.
        let anonymous = signed("the token", "v1", r#"{"user":null,"until":1000}"#);
        assert_eq!(key.verdict(Some(&anonymous), None, 990), AssertionVerdict::Valid);
        assert_eq!(key.verdict(Some(&anonymous), Some("alice"), 990), AssertionVerdict::Invalid);
        assert_eq!(key.verdict(Some(&good), None, 990), AssertionVerdict::Invalid);
    }

    /// A literal value from the platform's side, so that a change of the format on either side fails a test.
    #[test]
    fn a_known_assertion_holds() {
        let known = concat!(
            "v1.eyJpbnN0YW5jZSI6IjAxOTdkMmEwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMSIsInVudGlsIjoxNzk1MTg",
            "zMzg5LCJ1c2VyIjoiYWxpY2UifQ.hWB-bs_OoDwBYUdSIgyBZIijGvlFyAuvQc3KdAUlvzc",
        );
        assert_eq!(
            AssertionKey::of("instance token").verdict(Some(known), Some("alice"), 1_795_183_329),
            AssertionVerdict::Valid
        );
    }
}
