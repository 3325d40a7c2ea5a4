//! The operator: the first account, seeing all accounts, suspending one, and clearing away what expired.

use std::time::Duration;

use super::store::{self, Person, State};
use super::{AccountView, Accounts, DEVICE_KNOWN_FOR, Standing};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::secrets::Token;

/// How long a set-up link can be opened.
const SETUP_LINK_LIVES: Duration = Duration::from_secs(3600);
/// Accounts in one list.
const MOST_LISTED: u64 = 10_000;

impl Accounts {
    /// A new one-time set-up link's token, good for an hour, while there is no admin; the one before stops
    /// working, also for a sign-up that was begun with it.
    ///
    /// # Errors
    /// `Conflict` when there is an admin.
    pub async fn setup_link(&self) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        if store::is_an_admin_there(&tx).await? {
            return Err(Error::Conflict(
                "There is an admin already, so a set-up link would not work. Log in as the admin instead.".into(),
            ));
        }
        store::replace_setup_link(&tx, token.hash(), self.0.clock.now().plus(SETUP_LINK_LIVES)).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// All accounts, ordered by handle; the first ten thousand of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn accounts(&self) -> Result<Vec<AccountView>> {
        let db = self.0.db.read();
        let people = store::people(db, MOST_LISTED).await?;
        let passkeys = store::count_passkeys(db, None).await?;
        let codes = store::count_recovery_codes(db, None).await?;
        let count = |counts: &std::collections::HashMap<_, u64>, id| counts.get(&id).copied().unwrap_or(0);
        Ok(people.into_iter().map(|p| (count(&passkeys, p.id), count(&codes, p.id), p)).map(view).collect())
    }

    /// One account.
    ///
    /// # Errors
    /// `NotFound`, or when the database does not answer.
    pub async fn account(&self, handle: &Handle) -> Result<AccountView> {
        let db = self.0.db.read();
        let person = store::person_called(db, handle).await?.ok_or(Error::NotFound)?;
        let passkeys = store::count_passkeys(db, Some(person.id)).await?.into_values().sum();
        let codes = store::count_recovery_codes(db, Some(person.id)).await?.into_values().sum();
        Ok(view((passkeys, codes, person)))
    }

    /// Ends every session, stops the instance, and lets nobody log in or wake it. `actor` goes into the audit. Doing it
    /// again changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it leaves or is gone, or when the database does not answer.
    pub async fn suspend(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::person_called(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        refuse_if_leaving(&person)?;
        let tx = self.0.db.begin().await?;
        if !store::set_state(&tx, person.id, &[State::Active], State::Suspended).await? {
            return Ok(());
        }
        store::end_sessions_of(&tx, person.id).await?;
        let instance = self.0.instances.suspend_in(&tx, person.id).await?;
        let entry = store::AuditEntry { actor, action: "suspend", subject: handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.memory.forget(person.id);
        if let Some(id) = instance {
            self.0.instances.admit(id).await?;
        }
        Ok(())
    }

    /// Undoes [`Accounts::suspend`].
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it leaves or is gone, or when the database does not answer.
    pub async fn restore(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::person_called(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        refuse_if_leaving(&person)?;
        let tx = self.0.db.begin().await?;
        if !store::set_state(&tx, person.id, &[State::Suspended], State::Active).await? {
            return Ok(());
        }
        let instance = self.0.instances.restore_in(&tx, person.id).await?;
        let entry = store::AuditEntry { actor, action: "restore", subject: handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        if let Some(id) = instance {
            self.0.instances.admit(id).await?;
        }
        Ok(())
    }

    /// Deletes expired challenges, sign-ups, sessions, devices and set-up links, at most a thousand of each; how many rows
    /// went. Also forgets addresses whose tries have all come back.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn purge_expired(&self) -> Result<u64> {
        self.0.limits.forget_old();
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        // A link outlives its hour by a sign-up's time: one begun with it at the last moment still needs it.
        let links_until = now.minus(super::SIGN_UP_LIVES);
        let gone = store::purge_pending(&tx, now, links_until).await?
            + store::purge_sessions(&tx, now).await?
            + store::purge_devices(&tx, now.minus(DEVICE_KNOWN_FOR)).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

fn refuse_if_leaving(person: &Person) -> Result<()> {
    match person.state {
        State::Active | State::Suspended => Ok(()),
        State::Leaving => {
            Err(Error::Conflict("This account leaves. To keep it: berth user keep HANDLE, and then again.".into()))
        }
        State::Gone => Err(super::leaving::gone()),
    }
}

fn view((passkeys, recovery_codes_left, person): (u64, u64, Person)) -> AccountView {
    AccountView {
        id: person.id,
        handle: person.handle,
        role: person.role,
        standing: match person.state {
            State::Active => Standing::Active,
            State::Suspended => Standing::Suspended,
            State::Leaving => Standing::Leaving,
            State::Gone => Standing::Gone,
        },
        passkeys,
        recovery_codes_left,
        created_at: person.created_at,
    }
}
