//! Leaving: an account is given up, can be kept for a while, and is then destroyed with its instance and its files.
//!
//! Its handle is never given again, and the receipts of its AI calls stay, because the books must add up. Everything in
//! between is driven by the rows of `departures`: each run takes the next step of each, and every step may be taken twice.

use super::passkeys::PROOF_IS_FRESH_FOR;
use super::sessions::Method;
use super::store::{self, AskedBy, Departure, State};
use super::{Accounts, Leaving, Session};
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::instances::{Buried, Cause, Wish};
use crate::modules::{DeletedAccount, Modules};

/// Departures that one run looks at: a bound on how long it takes.
const AT_ONCE: u64 = 100;

/// The next step of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is kept: its files are marked no more.
    DigUp,
    /// Its files are marked, so that the host counts the time as well.
    Bury,
    /// It can still be kept.
    Wait,
    Destroy,
}

impl Accounts {
    /// Gives up the caller's account: everybody is logged out, the instance stops, and after a while all is destroyed;
    /// when, is the answer. `typed` is the handle as the person typed it, so that nobody leaves by a slip.
    ///
    /// # Errors
    /// `Invalid` for another handle; `Forbidden` unless the last login was by a passkey and is fresh.
    pub async fn leave(&self, session: &Session, typed: &str) -> Result<Timestamp> {
        if typed.trim().to_ascii_lowercase() != session.handle.as_str() {
            return Err(Error::invalid("handle", "This is not your handle. Type it to say that you mean it."));
        }
        let stored = self.app_session(session).await?;
        let fresh = self.0.clock.now().since(stored.passkey_at) <= PROOF_IS_FRESH_FOR;
        if !fresh || stored.method == Method::Recovery.word() {
            return Err(Error::Forbidden(
                "To leave, please log out and in again with your passkey: your last login was by a recovery code, or is \
                 more than ten minutes ago."
                    .into(),
            ));
        }
        self.depart(session.account, AskedBy::Owner, session.handle.as_str()).await
    }

    /// The operator's [`Accounts::leave`] for somebody else. Only the operator can undo it.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when it leaves already or is gone.
    pub async fn delete(&self, handle: &Handle, actor: &str) -> Result<Timestamp> {
        let person = store::person_called(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        self.depart(person.id, AskedBy::Operator, actor).await
    }

    /// The caller stays after all. Does nothing for an account that does not leave.
    ///
    /// # Errors
    /// `Forbidden` when it was the operator who asked.
    pub async fn stay(&self, session: &Session) -> Result<()> {
        match store::departure(self.0.db.read(), session.account).await? {
            None => Ok(()),
            Some(departure) if departure.asked_by == AskedBy::Operator => Err(Error::Forbidden(
                "The operator of this server deletes this account, so only the operator can keep it.".into(),
            )),
            Some(_) => self.turn_back(session.account, session.handle.as_str(), Cause::OwnerAsked).await,
        }
    }

    /// The operator's [`Accounts::stay`], whoever asked. Doing it again changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is gone already.
    pub async fn keep(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::person_called(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        if person.state == State::Gone {
            return Err(gone());
        }
        self.turn_back(person.id, actor, Cause::OperatorAsked).await
    }

    /// When the caller's account will be destroyed, and whether the caller may stay; `None` when it does not leave.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leaving(&self, session: &Session) -> Result<Option<Leaving>> {
        let departure = store::departure(self.0.db.read(), session.account).await?;
        let departure = departure.filter(|departure| departure.kept_at.is_none());
        Ok(departure.map(|d| Leaving { due: d.due, may_stay: d.asked_by == AskedBy::Owner }))
    }

    /// Takes the next step of every departure; how many accounts are gone now. One that fails is tried again at the next
    /// run and keeps nobody else waiting. `modules` are those in which an account may have rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn see_off(&self, modules: &Modules) -> Result<u64> {
        let mut gone = 0;
        for departure in store::departures(self.0.db.read(), AT_ONCE).await? {
            match self.take_step(&departure, modules).await {
                Ok(Step::Destroy) => gone += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(account.id = %departure.account, error = ?error, "a departure's step failed; it is tried again")
                }
            }
        }
        Ok(gone)
    }

    async fn depart(&self, account: AccountId, asked_by: AskedBy, actor: &str) -> Result<Timestamp> {
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let person = store::person_locked(&tx, account).await?.ok_or(Error::NotFound)?;
        if person.state == State::Gone {
            return Err(gone());
        }
        // One that was kept a moment ago is still marked on the host, since a time that must not count for this one.
        if store::departure(&tx, account).await?.is_some() {
            return Err(Error::Conflict(
                "This account leaves already, or was just kept: try again in a minute.".into(),
            ));
        }
        let cause = if asked_by == AskedBy::Owner { Cause::OwnerAsked } else { Cause::OperatorAsked };
        let departure = Departure {
            account,
            instance: self.0.instances.leave_in(&tx, account, cause).await?,
            asked_by,
            state_before: person.state,
            asked_at: now,
            due: now.plus(self.0.instances.delete_after()),
            buried_at: None,
            kept_at: None,
        };
        store::insert_departure(&tx, &departure).await?;
        store::set_state(&tx, account, &[person.state], State::Leaving).await?;
        store::end_sessions_of(&tx, account).await?;
        let entry = store::AuditEntry { actor, action: "leave", subject: person.handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.memory.forget(account);
        if let Some(id) = departure.instance {
            self.0.instances.admit(id).await?;
        }
        Ok(departure.due)
    }

    async fn turn_back(&self, account: AccountId, actor: &str, cause: Cause) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let person = store::person_locked(&tx, account).await?.ok_or(Error::NotFound)?;
        let departure = store::departure(&tx, account).await?.filter(|d| d.kept_at.is_none());
        let Some(departure) = departure else { return Ok(()) };
        let wish = if departure.state_before == State::Suspended { Wish::Suspended } else { Wish::Stopped };
        store::note_kept(&tx, account, self.0.clock.now()).await?;
        if !store::set_state(&tx, account, &[State::Leaving], departure.state_before).await? {
            return Err(gone());
        }
        let instance = self.0.instances.keep_in(&tx, account, (wish, cause)).await?;
        let entry = store::AuditEntry { actor, action: "keep", subject: person.handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.memory.forget(account);
        if let Some(id) = instance {
            self.0.instances.admit(id).await?;
        }
        // At once where that is possible; else the next run does it.
        if let Err(error) = self.dig_up(&departure).await {
            tracing::warn!(account.id = %account, error = ?error, "a kept account's files are still marked; it is tried again");
        }
        Ok(())
    }

    async fn take_step(&self, departure: &Departure, modules: &Modules) -> Result<Step> {
        let step = next_step(departure, self.0.clock.now());
        let (account, instances) = (departure.account, &self.0.instances);
        match (step, departure.instance) {
            (Step::Wait, _) => {}
            (Step::DigUp, _) => self.dig_up(departure).await?,
            (Step::Bury, instance) => {
                if let Some(id) = instance
                    && instances.bury_files(id).await? == Buried::NotYet
                {
                    return Ok(Step::Wait);
                }
                let tx = self.0.db.begin().await?;
                let now = self.0.clock.now();
                // The host counts from now on, and is not to be asked before its time is over.
                let due = departure.due.max(now.plus(instances.delete_after()));
                store::note_buried(&tx, account, now, due).await?;
                tx.commit().await?;
            }
            (Step::Destroy, instance) => {
                self.close(account).await?;
                if let Some(id) = instance {
                    instances.destroy_files(id).await?;
                }
                self.erase(departure, modules).await?;
            }
        }
        Ok(step)
    }

    async fn dig_up(&self, departure: &Departure) -> Result<()> {
        if let Some(id) = departure.instance {
            self.0.instances.dig_up_files(id).await?;
        }
        let tx = self.0.db.begin().await?;
        store::remove_departure(&tx, departure.account).await?;
        tx.commit().await
    }

    /// The point of no return: from here on nobody can keep the account, also when what follows has to be tried again.
    async fn close(&self, account: AccountId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::person_locked(&tx, account).await?;
        let departure = store::departure(&tx, account).await?.filter(|d| d.kept_at.is_none());
        if departure.is_none() || !store::set_state(&tx, account, &[State::Leaving, State::Gone], State::Gone).await? {
            return Err(Error::Conflict("This account was kept meanwhile.".into()));
        }
        tx.commit().await
    }

    /// The last step: every row of the person goes in one transaction, and what stays of the account is its handle.
    async fn erase(&self, departure: &Departure, modules: &Modules) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let person = store::person_locked(&tx, departure.account).await?.ok_or(Error::NotFound)?;
        let deleted = DeletedAccount { id: person.id, handle: person.handle, instance: departure.instance };
        modules.delete_account_rows(&tx, &deleted).await?;
        self.delete_own_rows(&tx, &deleted).await?;
        tx.commit().await?;
        self.0.memory.forget(deleted.id);
        modules.forget_account(&deleted);
        tracing::info!(account.id = %deleted.id, "an account that left is gone");
        Ok(())
    }

    /// The rows of this module: last, because those of the others point at the account.
    async fn delete_own_rows(&self, tx: &Tx, deleted: &DeletedAccount) -> Result<()> {
        store::end_sessions_of(tx, deleted.id).await?;
        store::forget_devices_of(tx, deleted.id).await?;
        store::remove_recovery_codes(tx, deleted.id).await?;
        store::remove_passkeys_of(tx, deleted.id).await?;
        store::blank_audit_of(tx, deleted.handle.as_str()).await?;
        store::empty_account(tx, deleted.id).await?;
        store::remove_departure(tx, deleted.id).await?;
        let entry = store::AuditEntry { actor: "berth", action: "gone", subject: deleted.handle.as_str(), detail: "" };
        store::record(tx, &self.0.clock, &entry).await
    }
}

fn next_step(departure: &Departure, now: Timestamp) -> Step {
    match departure {
        Departure { kept_at: Some(_), .. } => Step::DigUp,
        Departure { buried_at: None, .. } => Step::Bury,
        Departure { due, .. } if now < *due => Step::Wait,
        _ => Step::Destroy,
    }
}

pub(super) fn gone() -> Error {
    Error::Conflict("This account is gone. Its handle is never given again.".into())
}
