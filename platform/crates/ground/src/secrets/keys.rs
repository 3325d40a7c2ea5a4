//! The keys of this installation, derived from `BERTH_SECRET`: authenticated encryption at rest, MACs, and the
//! receipts' seed.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::clock::Clock;

/// The keys of this installation, one per purpose, all derived from `BERTH_SECRET`. They are zeroed in memory when
/// dropped.
#[derive(Clone)]
pub struct InstallationKeys {
    seal: Zeroizing<[u8; 32]>,
    sign: Zeroizing<[u8; 32]>,
    receipts: Zeroizing<[u8; 32]>,
    clock: Clock,
}

impl std::fmt::Debug for InstallationKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstallationKeys(..)")
    }
}

/// Decryption failed: another `BERTH_SECRET`, another owner, or altered bytes. The cipher cannot tell which.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open with this BERTH_SECRET")]
pub struct UnsealError;

impl InstallationKeys {
    /// Derives the keys from `secret`, the value of `BERTH_SECRET`: HMAC-SHA-256 with the secret as key and the purpose
    /// as message.
    #[must_use]
    pub fn derive(secret: &str, clock: Clock) -> Self {
        // The version in each label allows the key of one purpose to be rotated without the others.
        let key = |purpose: &str| Zeroizing::new(mac(secret.as_bytes(), purpose.as_bytes()));
        let (seal, sign, receipts) = (key("berth.seal.v1"), key("berth.sign.v1"), key("berth.receipts.v1"));
        Self { seal, sign, receipts, clock }
    }

    /// Encrypts `plain` with XChaCha20-Poly1305 (AEAD). `owner` is the associated data: authenticated, not stored, and
    /// required for decryption, so a ciphertext that is moved to another row does not decrypt. The result is the nonce,
    /// 24 bytes, followed by the ciphertext.
    ///
    /// # Panics
    /// Never: the cipher fails only on messages of more than 256 GiB.
    #[must_use]
    pub fn seal(&self, owner: &[u8], plain: &[u8]) -> Vec<u8> {
        // Random nonces are safe only because XChaCha20's have 192 bits: with the 96 bits of ring's ciphers they could
        // collide.
        let nonce: [u8; 24] = self.clock.random();
        let sealed = XChaCha20Poly1305::new(&(*self.seal).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: owner })
            .expect("short messages always encrypt");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Decrypts the output of [`InstallationKeys::seal`] for the same `owner`.
    ///
    /// # Errors
    /// When `sealed` was encrypted for another owner or with another secret, or was altered.
    pub fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (nonce, body) = sealed.split_first_chunk::<24>().ok_or(UnsealError)?;
        XChaCha20Poly1305::new(&(*self.seal).into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: owner })
            .map(Zeroizing::new)
            .map_err(|_| UnsealError)
    }

    /// The seed of the Ed25519 key that signs receipts; its public half is published.
    #[must_use]
    pub fn receipts(&self) -> Zeroizing<[u8; 32]> {
        self.receipts.clone()
    }

    /// HMAC-SHA-256 of `message` with the signing key, for statements of ours that are verified when they come back.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        mac(&*self.sign, message)
    }
}

/// The check value of `secret`, the value of `BERTH_SECRET`: an HMAC of a fixed text with a key derived from it. It
/// identifies the secret and reveals nothing of it.
#[must_use]
pub fn check_value(secret: &str) -> [u8; 32] {
    mac(&mac(secret.as_bytes(), b"berth.check.v1"), b"The secret of this installation.")
}

/// HMAC-SHA-256 of `message` with `key`.
#[must_use]
pub fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC hashes longer keys and pads shorter ones, so any length is valid.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_sealed_for_one_owner_does_not_open_for_another() {
        let keys = InstallationKeys::derive("a secret of at least 32 characters", Clock::system());
        let sealed = keys.seal(b"alice", b"hello");
        assert_eq!(keys.open(b"alice", &sealed).unwrap().as_slice(), b"hello");
        assert!(keys.open(b"bob", &sealed).is_err());
        assert!(
            InstallationKeys::derive("another secret of 32 characters..", Clock::system())
                .open(b"alice", &sealed)
                .is_err()
        );
    }
}
