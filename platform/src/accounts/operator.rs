//! Use-cases of the operator: the set-up link for the first admin, listing and suspending accounts, purging expired
//! rows.

use std::time::Duration;

use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_ground::secrets::Token;

use super::store::{self, AuditEntry, StoredAccount};
use super::{AccountState, AccountView, Accounts, DEVICE_KNOWN_FOR};

/// Lifetime of a set-up link.
const SETUP_LINK_LIFETIME: Duration = Duration::from_secs(3600);
/// Most accounts in one list.
const MOST_LISTED: u64 = 10_000;

impl Accounts {
    /// Creates the token of a single-use set-up link for the first admin, valid for an hour. It invalidates the
    /// previous link and a sign-up that was begun with it.
    ///
    /// # Errors
    /// `Conflict` when an admin exists.
    pub async fn setup_link(&self) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        if store::has_admin(&tx).await? {
            return Err(Error::Conflict(
                "There is an admin already, so a set-up link would not work. Log in as the admin instead.".into(),
            ));
        }
        store::replace_setup_link(&tx, token.hash(), self.0.clock.now().plus(SETUP_LINK_LIFETIME)).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// All accounts sorted by handle, at most ten thousand.
    pub async fn accounts(&self) -> Result<Vec<AccountView>> {
        let db = self.0.db.read();
        let accounts = store::accounts(db, MOST_LISTED).await?;
        let passkeys = store::count_passkeys(db, None).await?;
        let codes = store::count_recovery_codes(db, None).await?;
        let count = |counts: &std::collections::HashMap<_, u64>, id| counts.get(&id).copied().unwrap_or(0);
        Ok(accounts.into_iter().map(|a| view(count(&passkeys, a.id), count(&codes, a.id), a)).collect())
    }

    /// One account.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn account(&self, handle: &Handle) -> Result<AccountView> {
        let db = self.0.db.read();
        let person = store::account_by_handle(db, handle).await?.ok_or(Error::NotFound)?;
        let passkeys = store::count_passkeys(db, Some(person.id)).await?.into_values().sum();
        let codes = store::count_recovery_codes(db, Some(person.id)).await?.into_values().sum();
        Ok(view(passkeys, codes, person))
    }

    /// Suspends an account: ends its sessions, stops its instance, and refuses logins and wakes. `actor` is written to
    /// the audit log. Idempotent.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is scheduled for deletion or deleted.
    pub async fn suspend(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        refuse_if_deleting(&person)?;
        let tx = self.0.db.begin().await?;
        if !store::set_state(&tx, person.id, &[AccountState::Active], AccountState::Suspended).await? {
            return Ok(());
        }
        store::end_sessions_of(&tx, person.id).await?;
        let instance = self.0.instances.suspend_in(&tx, person.id).await?;
        let entry = AuditEntry { actor, action: "suspend", subject: handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.session_cache.invalidate(person.id);
        if let Some(id) = instance {
            self.0.instances.load_committed(id).await?;
        }
        Ok(())
    }

    /// Undoes [`Accounts::suspend`]. Idempotent.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is scheduled for deletion or deleted.
    pub async fn restore(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        refuse_if_deleting(&person)?;
        let tx = self.0.db.begin().await?;
        if !store::set_state(&tx, person.id, &[AccountState::Suspended], AccountState::Active).await? {
            return Ok(());
        }
        let instance = self.0.instances.restore_in(&tx, person.id).await?;
        let entry = AuditEntry { actor, action: "restore", subject: handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        if let Some(id) = instance {
            self.0.instances.load_committed(id).await?;
        }
        Ok(())
    }

    /// Deletes expired challenges, sign-ups, sessions, devices and set-up links, at most a thousand rows of each, and
    /// returns the number of deleted rows. Also drops rate-limit buckets that are full again.
    pub async fn purge_expired(&self) -> Result<u64> {
        self.0.limits.purge();
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        // A sign-up may begin with a link in its last second, and needs the link's row until it finishes. So the row of
        // an expired link stays for the lifetime of a sign-up.
        let links_until = now.minus(super::SIGN_UP_LIVES);
        let purged = store::purge_expired_pending(&tx, now, links_until).await?
            + store::purge_sessions(&tx, now).await?
            + store::purge_devices(&tx, now.minus(DEVICE_KNOWN_FOR)).await?;
        tx.commit().await?;
        Ok(purged)
    }
}

fn refuse_if_deleting(person: &StoredAccount) -> Result<()> {
    match person.state {
        AccountState::Active | AccountState::Suspended => Ok(()),
        AccountState::Deleting => Err(Error::Conflict(
            "This account is scheduled for deletion. First cancel that: berth user cancel-deletion HANDLE.".into(),
        )),
        AccountState::Deleted => Err(super::deletion::deleted()),
    }
}

fn view(passkeys: u64, recovery_codes_left: u64, person: StoredAccount) -> AccountView {
    AccountView {
        id: person.id,
        handle: person.handle,
        role: person.role,
        state: person.state,
        passkeys,
        recovery_codes_left,
        created_at: person.created_at,
    }
}
