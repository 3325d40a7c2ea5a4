//! Own keys (bring your own key): API keys of accounts at model providers. A call to a provider for which the account
//! has a key uses only that key: it costs nothing of the Berth budget, and the provider bills the key's owner.
//!
//! A key is encrypted at rest, in the database and in memory, and decrypted only to write the head of a call. It is
//! never shown again. Every call looks up its account's key, so a write-through cache holds all keys in memory.

mod registration;
mod rules;
mod store;
mod stored_key;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_ground::secrets::{InstallationKeys, UnsealError};
pub use stored_key::KeyRefusal;
use stored_key::{KeyId, StoredKey};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::db::audit::{self, AuditEntry};
use crate::db::{AccountId, Db, Tx};
use crate::modules::SealedSample;

/// Debounce: shortest time between two writes of the same refusal. A program may retry a refused key many times a
/// second.
const REFUSAL_PRECISION: Duration = Duration::from_secs(60);

/// The module's interface. Clones share one state.
#[derive(Clone)]
pub struct OwnKeys(Arc<OwnKeysInner>);

struct OwnKeysInner {
    db: Db,
    clock: Clock,
    keys: InstallationKeys,
    /// The providers for which a key can be set: every model provider in the settings.
    providers: Vec<String>,
    memory: RwLock<HashMap<AccountId, BTreeMap<String, Arc<StoredKey>>>>,
    /// Serializes writes. Otherwise two writes could commit in one order and reach `memory` in the other.
    write_lock: tokio::sync::Mutex<()>,
}

/// A key as shown to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    pub provider: String,
    pub last_four: String,
    pub added_at: Timestamp,
    pub refused: Option<KeyRefusal>,
}

/// The account that sets or removes its key. `handle` is for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct KeyOwner<'a> {
    pub account: AccountId,
    pub handle: &'a Handle,
}

/// The key of one call. The call keeps it even when the owner removes or replaces it meanwhile.
pub struct CallKey {
    own_keys: OwnKeys,
    id: KeyId,
    stored: Arc<StoredKey>,
}

impl OwnKeys {
    /// Loads all keys into memory without decrypting them.
    pub async fn open(db: Db, clock: Clock, keys: InstallationKeys, config: &Config) -> Result<Self> {
        let known = ["anthropic", "openai"].into_iter().map(str::to_owned);
        let providers = known.chain(config.providers.models.keys().cloned()).collect();
        let mut memory: HashMap<AccountId, BTreeMap<String, Arc<StoredKey>>> = HashMap::new();
        for (id, stored) in store::all(&db).await? {
            memory.entry(id.account).or_default().insert(id.provider, Arc::new(stored));
        }
        let (memory, write_lock) = (RwLock::new(memory), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(OwnKeysInner { db, clock, keys, providers, memory, write_lock })))
    }

    /// The providers for which a key can be set.
    #[must_use]
    pub fn providers(&self) -> &[String] {
        &self.0.providers
    }

    /// The keys of `account`, sorted by provider.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Vec<OwnKey> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        let keys = memory.get(&account).into_iter().flatten();
        keys.map(|(provider, stored)| OwnKey {
            provider: provider.clone(),
            last_four: stored.last_four.clone(),
            added_at: stored.added_at,
            refused: *stored.refused(),
        })
        .collect()
    }

    /// The configured providers for which `account` has a key.
    #[must_use]
    pub fn in_use(&self, account: AccountId) -> Vec<String> {
        // A provider may have left the settings since the key was added. The row stays in case it returns.
        let keys = self.of(account).into_iter().map(|key| key.provider);
        keys.filter(|provider| self.0.providers.contains(provider)).collect()
    }

    /// The key for a call of `account` to `provider`, if the account has one.
    #[must_use]
    pub fn call_key(&self, account: AccountId, provider: &str) -> Option<CallKey> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        let stored = Arc::clone(memory.get(&account)?.get(provider)?);
        Some(CallKey { own_keys: self.clone(), id: KeyId { account, provider: provider.to_owned() }, stored })
    }

    /// Stores a key as typed by its owner, replacing an earlier one for the same provider. The next call uses it.
    ///
    /// # Errors
    /// `Invalid` when the text cannot be a key; `NotFound` for a provider that is not in the settings.
    pub async fn set(&self, owner: KeyOwner<'_>, provider: &str, typed: &str) -> Result<()> {
        let OwnKeysInner { db, clock, keys, providers, .. } = &*self.0;
        if !providers.iter().any(|known| known == provider) {
            return Err(Error::NotFound);
        }
        let id = KeyId { account: owner.account, provider: provider.to_owned() };
        let key = rules::parse_key(typed).map_err(|sentence| Error::invalid("key", sentence))?;
        let stored = StoredKey {
            sealed: keys.seal(&associated_data(&id), key.as_bytes()),
            last_four: rules::last_four(key).to_owned(),
            added_at: clock.now(),
            refused: Mutex::default(),
        };
        let _guard = self.0.write_lock.lock().await;
        let tx = db.begin().await?;
        store::put(&tx, &id, &stored).await?;
        let handle = owner.handle.as_str();
        let entry = AuditEntry { actor: handle, action: "add_own_key", subject: handle, detail: provider };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| memory.entry(id.account).or_default().insert(id.provider, Arc::new(stored)));
        Ok(())
    }

    /// Removes a key for its owner. The next call is charged to the Berth budget; calls in flight keep the removed key.
    ///
    /// # Errors
    /// `NotFound` when there is no such key.
    pub async fn remove(&self, owner: KeyOwner<'_>, provider: &str) -> Result<()> {
        let id = KeyId { account: owner.account, provider: provider.to_owned() };
        let _guard = self.0.write_lock.lock().await;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, &id).await? {
            return Err(Error::NotFound);
        }
        let handle = owner.handle.as_str();
        let entry = AuditEntry { actor: handle, action: "remove_own_key", subject: handle, detail: provider };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| memory.entry(id.account).or_default().remove(&id.provider));
        Ok(())
    }

    /// Deletes every key of `account` in the caller's transaction. [`OwnKeys::forget`] must be called after the commit.
    async fn forget_in(&self, tx: &Tx, account: AccountId) -> Result<()> {
        store::forget(tx, account).await
    }

    /// Removes from memory the keys that [`OwnKeys::forget_in`] deleted.
    fn forget(&self, account: AccountId) {
        self.change(|memory| memory.remove(&account));
    }

    /// Tries to decrypt the key that was added first.
    fn try_oldest_key(&self) -> SealedSample {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        let keys =
            memory.iter().flat_map(|(account, keys)| keys.iter().map(|(provider, key)| (*account, provider, key)));
        let Some((account, provider, key)) = keys.min_by_key(|(_, _, key)| key.added_at) else {
            return SealedSample::Absent;
        };
        let data = associated_data(&KeyId { account, provider: provider.clone() });
        let opened = self.0.keys.open(&data, &key.sealed);
        if opened.is_ok() { SealedSample::Opens } else { SealedSample::DoesNotOpen }
    }

    /// Stores the last refusal of a key. Best effort: a failure is logged.
    async fn persist_refusal(&self, id: &KeyId, stored: &StoredKey) {
        let _guard = self.0.write_lock.lock().await;
        // Read after the lock was acquired: each of several waiting tasks then writes the newest refusal, so the order
        // in which they get the lock does not matter.
        let Some(refused) = *stored.refused() else { return };
        let provider = id.provider.as_str();
        tracing::info!(account.id = %id.account, provider, refused.status, "a provider refused an account's own key");
        let write = async {
            let tx = self.0.db.begin().await?;
            store::note_refused(&tx, id, stored, refused).await?;
            tx.commit().await
        };
        if let Err(error) = write.await {
            tracing::warn!(error = ?error, "could not store the refusal of an own key; it is in memory only");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<AccountId, BTreeMap<String, Arc<StoredKey>>>) -> T) -> T {
        change(&mut self.0.memory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CallKey {
    /// Decrypts the key. It may be written only into the head of a call.
    ///
    /// # Errors
    /// When the key was encrypted under another `BERTH_SECRET`.
    pub fn reveal(&self) -> std::result::Result<Zeroizing<Vec<u8>>, UnsealError> {
        self.own_keys.0.keys.open(&associated_data(&self.id), &self.stored.sealed)
    }

    /// Records that the provider refused the key, if `status` says so, to show it to the owner.
    pub fn note_status(&self, status: u16) {
        if !matches!(status, 401 | 403) {
            return;
        }
        let refused = KeyRefusal { at: self.own_keys.0.clock.now(), status };
        let is_news = |before: KeyRefusal| before.status != status || refused.at.since(before.at) >= REFUSAL_PRECISION;
        if self.stored.refused().is_none_or(is_news) {
            *self.stored.refused() = Some(refused);
            let (own_keys, id, stored) = (self.own_keys.clone(), self.id.clone(), Arc::clone(&self.stored));
            // Not awaited: the provider's answer must not wait for the database. If the process ends before the write,
            // the note is lost, and the next refused call records it again.
            tokio::spawn(async move { own_keys.persist_refusal(&id, &stored).await });
        }
    }
}

/// The associated data of a key's encryption (AEAD): binds the ciphertext to its row. A ciphertext copied into the row
/// of another account or provider does not decrypt there.
fn associated_data(id: &KeyId) -> Vec<u8> {
    // Unambiguous without a separator, because an account id has a fixed length of 16 bytes.
    [id.account.0.as_bytes(), id.provider.as_bytes()].concat()
}
