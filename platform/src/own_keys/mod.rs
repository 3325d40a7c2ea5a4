//! Own keys: a person's key at a provider of models. Their calls to it go out under this key and no other, so they cost the
//! budget nothing and the provider bills the person.
//!
//! A key is sealed for its account and provider, in the database and in memory, and open only where a call is written. It
//! is never shown or said again. Which account has one is asked at every call, so all of them stand in memory.

mod registration;
mod rules;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::db::{AccountId, Db, Tx, audit};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::secrets::{InstallationKeys, UnsealError};

/// A refusal that is told again within this time is not noted again: programs try and try.
const NOTED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct OwnKeys(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    keys: InstallationKeys,
    /// Whom a key can be for: every provider of models that the settings know.
    providers: Vec<String>,
    memory: RwLock<HashMap<AccountId, BTreeMap<String, Arc<Kept>>>>,
    /// One at a time changes something, so that memory follows the database in its order.
    changing: tokio::sync::Mutex<()>,
}

/// A key as it is kept.
struct Kept {
    sealed: Vec<u8>,
    last_four: String,
    added_at: Timestamp,
    refused: Mutex<Option<Refused>>,
}

/// That the provider did not accept a key, when it last did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub at: Timestamp,
    /// 401: it does not know the key; 403: the key may not do what was asked for.
    pub status: u16,
}

/// What its owner sees of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    pub provider: String,
    pub last_four: String,
    pub added_at: Timestamp,
    pub refused: Option<Refused>,
}

/// The key that a call goes out under. It stays what it is when its owner removes the key meanwhile.
pub struct Pass {
    room: OwnKeys,
    account: AccountId,
    provider: String,
    kept: Arc<Kept>,
}

impl OwnKeys {
    /// Reads all keys, sealed as they are.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, keys: InstallationKeys, config: &Config) -> Result<Self> {
        let known = ["anthropic", "openai"].into_iter().map(str::to_owned);
        let providers = known.chain(config.providers.models.keys().cloned()).collect();
        let mut memory: HashMap<AccountId, BTreeMap<String, Arc<Kept>>> = HashMap::new();
        for (account, provider, kept) in store::all(&db).await? {
            memory.entry(account).or_default().insert(provider, Arc::new(kept));
        }
        let (memory, changing) = (RwLock::new(memory), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Inner { db, clock, keys, providers, memory, changing })))
    }

    /// Whom a key can be for.
    #[must_use]
    pub fn providers(&self) -> &[String] {
        &self.0.providers
    }

    /// The keys of `account`, by provider.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Vec<OwnKey> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        let seen = |(provider, kept): (&String, &Arc<Kept>)| OwnKey {
            provider: provider.clone(),
            last_four: kept.last_four.clone(),
            added_at: kept.added_at,
            refused: *kept.refused(),
        };
        memory.get(&account).into_iter().flatten().map(seen).collect()
    }

    /// The providers to which the calls of `account` go out under its own key.
    #[must_use]
    pub fn in_use(&self, account: AccountId) -> Vec<String> {
        let keys = self.of(account).into_iter().map(|key| key.provider);
        keys.filter(|provider| self.0.providers.contains(provider)).collect()
    }

    /// What a call of `account` to `provider` goes out under, if the account has a key there.
    #[must_use]
    pub fn pass(&self, account: AccountId, provider: &str) -> Option<Pass> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        let kept = Arc::clone(memory.get(&account)?.get(provider)?);
        Some(Pass { room: self.clone(), account, provider: provider.to_owned(), kept })
    }

    /// Keeps a key that its owner typed, in the place of another for the same provider. The next call goes out under it.
    ///
    /// # Errors
    /// `Invalid` for what can be no key; `NotFound` for a provider that is not known here.
    pub async fn set(&self, (account, owner): (AccountId, &Handle), provider: &str, typed: &str) -> Result<()> {
        let Inner { db, clock, keys, providers, .. } = &*self.0;
        if !providers.iter().any(|known| known == provider) {
            return Err(Error::NotFound);
        }
        let key = rules::read(typed).map_err(|sentence| Error::invalid("key", sentence))?;
        let kept = Kept {
            sealed: keys.seal(&whose(account, provider), key.as_bytes()),
            last_four: rules::last_four(key).to_owned(),
            added_at: clock.now(),
            refused: Mutex::default(),
        };
        let _one_at_a_time = self.0.changing.lock().await;
        let tx = db.begin().await?;
        store::put(&tx, account, provider, &kept).await?;
        let entry = audit::AuditEntry {
            actor: owner.as_str(),
            action: "add_own_key",
            subject: owner.as_str(),
            detail: provider,
        };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| memory.entry(account).or_default().insert(provider.to_owned(), Arc::new(kept)));
        Ok(())
    }

    /// Takes a key away for its owner. The next call is the budget's again; those in flight end as they began.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn remove(&self, (account, owner): (AccountId, &Handle), provider: &str) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, account, provider).await? {
            return Err(Error::NotFound);
        }
        let entry = audit::AuditEntry {
            actor: owner.as_str(),
            action: "remove_own_key",
            subject: owner.as_str(),
            detail: provider,
        };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| memory.entry(account).or_default().remove(provider));
        Ok(())
    }

    /// Deletes, in the caller's transaction, every key of `account`; call [`OwnKeys::forget`] after the commit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_in(&self, tx: &Tx, account: AccountId) -> Result<()> {
        store::forget(tx, account).await
    }

    /// Forgets what was deleted by [`OwnKeys::forget_in`].
    pub fn forget(&self, account: AccountId) {
        self.change(|memory| memory.remove(&account));
    }

    /// Writes down what `kept` was last told, which may be more than it was when somebody asked for this.
    async fn write_down(&self, (account, provider): (AccountId, &str), kept: &Kept) {
        let _one_at_a_time = self.0.changing.lock().await;
        let Some(refused) = *kept.refused() else { return };
        tracing::info!(account.id = %account, provider, refused.status, "a provider refused a person's own key");
        let write = async {
            let tx = self.0.db.begin().await?;
            store::note_refused(&tx, (account, provider), kept, refused).await?;
            tx.commit().await
        };
        if let Err(error) = write.await {
            tracing::warn!(error = ?error, "that an own key was refused stands in memory only");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<AccountId, BTreeMap<String, Arc<Kept>>>) -> T) -> T {
        change(&mut self.0.memory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pass {
    /// The key itself, to be written into the head of a call and nowhere else.
    ///
    /// # Errors
    /// When it was sealed with another `BERTH_SECRET` than this installation's.
    pub fn reveal(&self) -> std::result::Result<Zeroizing<Vec<u8>>, UnsealError> {
        self.room.0.keys.open(&whose(self.account, &self.provider), &self.kept.sealed)
    }

    /// Takes note of the status that the provider answered with, for the owner's page. Its writing down keeps no answer
    /// waiting.
    pub fn heard(&self, status: u16) {
        if !matches!(status, 401 | 403) {
            return;
        }
        let refused = Refused { at: self.room.0.clock.now(), status };
        let is_news = |before: Refused| before.status != status || refused.at.since(before.at) >= NOTED_AGAIN_AFTER;
        if self.kept.refused().is_none_or(is_news) {
            *self.kept.refused() = Some(refused);
            let (room, account, provider) = (self.room.clone(), self.account, self.provider.clone());
            let kept = Arc::clone(&self.kept);
            tokio::spawn(async move { room.write_down((account, &provider), &kept).await });
        }
    }
}

impl Kept {
    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        // One value is whole after any panic.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a key is sealed for: it opens for no other account, and for no other provider of the same one.
fn whose(account: AccountId, provider: &str) -> Vec<u8> {
    [account.0.as_bytes(), provider.as_bytes()].concat()
}
