//! Account recovery: ten printed codes, each valid for one login together with a one-time code.

use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;

use super::log_in::may_log_in;
use super::one_time_codes::{CodeOutcome, LockoutPolicy};
use super::sessions::LogInMethod;
use super::store::{self, StoredAccount};
use super::{Accounts, AccountsInner, Client, NewSession, rules};
use crate::db::{AccountId, Tx};

/// The number of recovery codes of an account.
pub(super) const CODES: usize = 10;

impl Accounts {
    /// Logs in with a recovery code and a one-time code, and ends every other session. No browser counts as known
    /// afterwards.
    ///
    /// # Errors
    /// `Forbidden`, with one sentence for a wrong handle, recovery code or one-time code; `TooMany` when attempts
    /// exceed the rate limit.
    pub async fn recover(&self, handle: &str, recovery_code: &str, code: &str, client: &Client) -> Result<NewSession> {
        self.0.limits.log_in(client.ip)?;
        let handle = Handle::parse(&handle.trim().to_ascii_lowercase()).map_err(|_| recovery_refused())?;
        let recovery_code = rules::read_recovery_code(recovery_code).ok_or_else(recovery_refused)?;
        let found = store::account_by_handle(self.0.db.read(), &handle).await?.ok_or_else(recovery_refused)?;
        let hash = self.0.recovery_code_hash(found.id, &recovery_code);

        let tx = self.0.db.begin().await?;
        let person = self.lock_with_recovery_code(&tx, found.id, &hash).await?;
        if let CodeOutcome::Rejected(error) = self.try_code(&tx, &person, code, LockoutPolicy::AllowRecovery).await? {
            // Committed, not rolled back: the count of wrong one-time codes is part of this transaction. The recovery
            // code stays unused.
            tx.commit().await?;
            return Err(if matches!(error, Error::TooMany { .. }) { error } else { recovery_refused() });
        }
        if !store::use_recovery_code(&tx, person.id, &hash, self.0.clock.now()).await? {
            return Err(recovery_refused());
        }
        // Recovery may follow a theft, so the sessions and known browsers of a thief end here as well.
        store::end_sessions_of(&tx, person.id).await?;
        store::forget_devices_of(&tx, person.id).await?;
        let signed_in = self.sign_in(&tx, &person, LogInMethod::Recovery, client, None).await?;
        tx.commit().await?;
        self.0.session_cache.invalidate(person.id);
        Ok(signed_in)
    }

    /// Locks and returns the account, if it may log in and the recovery code is one of its unused ones.
    async fn lock_with_recovery_code(&self, tx: &Tx, id: AccountId, hash: &[u8]) -> Result<StoredAccount> {
        // Order: the recovery code is checked before the one-time code. Otherwise a client without any secret could
        // cause a hundred wrong one-time codes and lock the account out.
        let person = store::lock_account(tx, id).await?.filter(may_log_in);
        let person = person.ok_or_else(recovery_refused)?;
        if store::has_recovery_code(tx, id, hash).await? { Ok(person) } else { Err(recovery_refused()) }
    }
}

impl AccountsInner {
    /// Ten new codes in the form that is shown to the person.
    pub(super) fn new_recovery_codes(&self) -> Vec<String> {
        (0..CODES).map(|_| rules::recovery_code(self.clock.random())).collect()
    }

    /// The keyed hash (HMAC) under which a code is stored. `code` is normalized by [`rules::read_recovery_code`].
    pub(super) fn recovery_code_hash(&self, account: AccountId, code: &str) -> Vec<u8> {
        // A code has 125 random bits, so a fast hash is enough. The account's id in the message prevents a row from
        // being valid for another account. The lookup is an index match and not a constant-time comparison: the timing
        // could leak a prefix of the HMAC, which does not help to find a code.
        let message = [b"recovery code ", account.0.as_bytes().as_slice(), code.as_bytes()].concat();
        self.keys.sign(&message).to_vec()
    }
}

fn recovery_refused() -> Error {
    Error::Forbidden(
        "The handle, the recovery code or the one-time code is not right. Each code works once; please check all three."
            .into(),
    )
}
