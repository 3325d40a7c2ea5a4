//! Bearer tokens and their hashes; with the feature `keys`, the keys derived from `BERTH_SECRET`: encryption at rest,
//! MACs, and the seed of the signing key for receipts.

#[cfg(feature = "keys")]
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
#[cfg(feature = "keys")]
pub use keys::{InstallationKeys, UnsealError, check_value, mac};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;

/// A bearer token: handed out once, stored only as its hash, and looked up by that hash. 256 random bits in URL-safe
/// base64, 43 characters.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new random token.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self(URL_SAFE_NO_PAD.encode(clock.random::<32>()))
    }

    /// The plain text, for handing out. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the text: the only form that is stored.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

// Not derived: a derived Debug would write the token into logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a presented token, 32 bytes. A slow password hash would add nothing: 256 random bits cannot be guessed
/// (OWASP ASVS 6.5.2).
#[must_use]
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
