//! Keys derived from the one secret, tokens and their hashes, and encryption of what must be read back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;

/// A secret handed to somebody, who brings it back; only its hash is kept. 256 random bits, URL-safe text.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A fresh one.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self(URL_SAFE_NO_PAD.encode(clock.random::<32>()))
    }

    /// The text to hand out.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored in its place.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a token that came back. A plain hash is enough for 256 random bits (OWASP ASVS 6.5.2).
#[must_use]
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// The keys of this installation, each derived from `BERTH_SECRET` for one purpose.
#[derive(Clone)]
pub struct Keys {
    seal: Zeroizing<[u8; 32]>,
    sign: Zeroizing<[u8; 32]>,
    receipts: Zeroizing<[u8; 32]>,
    clock: Clock,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// A sealed text could not be opened: another `BERTH_SECRET`, another owner, or damage.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open with this BERTH_SECRET")]
pub struct Unsealable;

impl Keys {
    /// Derives the keys from `secret` (see `BERTH_SECRET`).
    #[must_use]
    pub fn derive(secret: &str, clock: Clock) -> Self {
        let key = |purpose: &str| Zeroizing::new(mac(secret.as_bytes(), purpose.as_bytes()));
        let (seal, sign, receipts) = (key("berth.seal.v1"), key("berth.sign.v1"), key("berth.receipts.v1"));
        Self { seal, sign, receipts, clock }
    }

    /// Encrypts `plain` so that it opens only together with the same `owner` (XChaCha20-Poly1305, random nonce first).
    ///
    /// # Panics
    /// Never: the cipher fails only on messages of more than 256 GiB.
    #[must_use]
    pub fn seal(&self, owner: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; 24] = self.clock.random();
        let sealed = XChaCha20Poly1305::new(&(*self.seal).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: owner })
            .expect("short messages always encrypt");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Decrypts what [`Keys::seal`] made for the same `owner`.
    ///
    /// # Errors
    /// When it was sealed for someone else, with another secret, or was altered.
    pub fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (nonce, body) = sealed.split_first_chunk::<24>().ok_or(Unsealable)?;
        XChaCha20Poly1305::new(&(*self.seal).into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: owner })
            .map(Zeroizing::new)
            .map_err(|_| Unsealable)
    }

    /// The seed of the key that signs receipts, whose other half is public.
    #[must_use]
    pub fn receipts(&self) -> Zeroizing<[u8; 32]> {
        self.receipts.clone()
    }

    /// HMAC-SHA-256 of `message`, for statements that others check later.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        mac(&*self.sign, message)
    }
}

/// HMAC-SHA-256 of `message` with `key`.
#[must_use]
pub fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_for_one_owner_does_not_open_for_another() {
        let keys = Keys::derive("a secret of at least 32 characters", Clock::system());
        let sealed = keys.seal(b"alice", b"hello");
        assert_eq!(keys.open(b"alice", &sealed).unwrap().as_slice(), b"hello");
        assert!(keys.open(b"bob", &sealed).is_err());
        assert!(Keys::derive("another secret of 32 characters..", Clock::system()).open(b"alice", &sealed).is_err());
    }
}
