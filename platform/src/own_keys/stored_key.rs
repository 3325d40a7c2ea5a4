//! An encrypted key as it is held in memory and in its row.

use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_ground::clock::Timestamp;

use crate::db::AccountId;

/// The account and provider of a key. An account has at most one key per provider.
#[derive(Clone, Debug)]
pub(super) struct KeyId {
    pub(super) account: AccountId,
    pub(super) provider: String,
}

/// An encrypted key, in memory and in its row.
pub(super) struct StoredKey {
    /// Ciphertext, with the [`KeyId`] as associated data.
    pub(super) sealed: Vec<u8>,
    pub(super) last_four: String,
    pub(super) added_at: Timestamp,
    pub(super) refused: Mutex<Option<KeyRefusal>>,
}

/// The last time that the provider refused a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRefusal {
    pub at: Timestamp,
    /// HTTP status: 401 when the provider does not know the key, 403 when the key lacks a permission.
    pub status: u16,
}

impl StoredKey {
    pub(super) fn refused(&self) -> MutexGuard<'_, Option<KeyRefusal>> {
        // A poisoned lock is still valid: the value is replaced in one assignment, so a panic cannot leave half of it.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
