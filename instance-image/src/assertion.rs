//! Checks the platform's signed word on who is asking (README.md, "The assertion"). Whoever else reaches this port can write
//! `X-Berth-User`; nobody but the platform and this container can write an assertion that holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The header that carries it.
pub const HEADER: &str = "x-berth-assertion";

/// What an assertion is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionVerdict {
    Valid,
    Missing,
    Invalid,
}

/// The key that assertions to this container are signed with: the SHA-256 of its token.
pub struct AssertionKey([u8; 32]);

#[derive(Deserialize)]
struct AssertionPayload {
    /// `null`: nobody known.
    user: Option<String>,
    /// Unix time in seconds.
    until: u64,
}

impl AssertionKey {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether `assertion` says, at `now` in Unix seconds, that `user` is asking, or nobody known.
    pub fn verdict(&self, assertion: Option<&str>, user: Option<&str>, now: u64) -> AssertionVerdict {
        match assertion {
            None => AssertionVerdict::Missing,
            Some(text) => match self.read(text) {
                Some(payload) if payload.user.as_deref() == user && payload.until >= now => AssertionVerdict::Valid,
                _ => AssertionVerdict::Invalid,
            },
        }
    }

    /// The payload, once the signature over everything before it holds. Compared in constant time.
    fn read(&self, text: &str) -> Option<AssertionPayload> {
        let (signed, mac) = text.rsplit_once('.')?;
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        hmac.update(signed.as_bytes());
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
    fn only_the_platforms_fresh_word_on_this_user_counts() {
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
        // Nobody known is nobody: neither is taken for the other.
        let nobody = signed("the token", "v1", r#"{"user":null,"until":1000}"#);
        assert_eq!(key.verdict(Some(&nobody), None, 990), AssertionVerdict::Valid);
        assert_eq!(key.verdict(Some(&nobody), Some("alice"), 990), AssertionVerdict::Invalid);
        assert_eq!(key.verdict(Some(&good), None, 990), AssertionVerdict::Invalid);
    }

    /// Written down as the platform signs it, so that the two cannot drift apart unseen.
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
