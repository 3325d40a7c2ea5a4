//! Account deletion: an account is given up, can be kept for a while, and is then destroyed with its instance and its files.
//!
//! Its handle is never given again, and the receipts of its AI calls stay, because the books must add up. Everything in
//! between is driven by the rows of `departures`: each run takes the next step of each, and every step may be taken twice.

use super::passkeys::PROOF_IS_FRESH_FOR;
use super::sessions::LogInMethod;
use super::store::{self, AuditEntry, DeletionRequester, Departure};
use super::{AccountState, Accounts, ScheduledDeletion, Session};
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::instances::{Buried, Cause, Wish};

/// Departures that one run looks at: a bound on how long it takes.
const AT_ONCE: u64 = 100;

/// The next step of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeletionStep {
    /// It is kept: its files are marked no more.
    UnmarkFiles,
    /// Its files are marked, so that the host counts the time as well.
    MarkFiles,
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
    pub async fn schedule_deletion(&self, session: &Session, typed: &str) -> Result<Timestamp> {
        if typed.trim().to_ascii_lowercase() != session.handle.as_str() {
            return Err(Error::invalid("handle", "This is not your handle. Type it to say that you mean it."));
        }
        let stored = self.app_session(session).await?;
        let fresh = self.0.clock.now().since(stored.passkey_at) <= PROOF_IS_FRESH_FOR;
        if !fresh || stored.method == LogInMethod::Recovery.word() {
            return Err(Error::Forbidden(
                "To leave, please log out and in again with your passkey: your last login was by a recovery code, or is \
                 more than ten minutes ago."
                    .into(),
            ));
        }
        self.schedule(session.account, DeletionRequester::Owner, session.handle.as_str()).await
    }

    /// The operator's [`Accounts::schedule_deletion`] for somebody else. Only the operator can undo it.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when it leaves already or is gone.
    pub async fn schedule_deletion_of(&self, handle: &Handle, actor: &str) -> Result<Timestamp> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        self.schedule(person.id, DeletionRequester::Operator, actor).await
    }

    /// The caller stays after all. Does nothing for an account that does not leave.
    ///
    /// # Errors
    /// `Forbidden` when it was the operator who asked.
    pub async fn cancel_deletion(&self, session: &Session) -> Result<()> {
        match store::departure(self.0.db.read(), session.account).await? {
            None => Ok(()),
            Some(departure) if departure.requested_by == DeletionRequester::Operator => Err(Error::Forbidden(
                "The operator of this server deletes this account, so only the operator can keep it.".into(),
            )),
            Some(_) => self.cancel(session.account, session.handle.as_str(), Cause::OwnerAsked).await,
        }
    }

    /// The operator's [`Accounts::cancel_deletion`], whoever asked. Doing it again changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is gone already.
    pub async fn cancel_deletion_of(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        if person.state == AccountState::Deleted {
            return Err(deleted());
        }
        self.cancel(person.id, actor, Cause::OperatorAsked).await
    }

    /// When the caller's account will be destroyed, and whether the caller may stay; `None` when it does not leave.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn scheduled_deletion(&self, session: &Session) -> Result<Option<ScheduledDeletion>> {
        let departure = store::departure(self.0.db.read(), session.account).await?;
        let departure = departure.filter(|departure| departure.cancelled_at.is_none());
        Ok(departure
            .map(|d| ScheduledDeletion { due: d.due, owner_may_cancel: d.requested_by == DeletionRequester::Owner }))
    }

    /// Takes the next step of every departure; how many accounts are gone now. One that fails is tried again at the next
    /// run and keeps nobody else waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn advance_deletions(&self) -> Result<u64> {
        let mut gone = 0;
        for departure in store::departures(self.0.db.read(), AT_ONCE).await? {
            match self.take_step(&departure).await {
                Ok(DeletionStep::Destroy) => gone += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(account.id = %departure.account, error = ?error, "a departure's step failed; it is tried again")
                }
            }
        }
        Ok(gone)
    }

    async fn schedule(&self, account: AccountId, requested_by: DeletionRequester, actor: &str) -> Result<Timestamp> {
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let person = store::lock_account(&tx, account).await?.ok_or(Error::NotFound)?;
        if person.state == AccountState::Deleted {
            return Err(deleted());
        }
        // One that was kept a moment ago is still marked on the host, since a time that must not count for this one.
        if store::departure(&*tx, account).await?.is_some() {
            return Err(Error::Conflict(
                "This account leaves already, or was just kept: try again in a minute.".into(),
            ));
        }
        let cause = if requested_by == DeletionRequester::Owner { Cause::OwnerAsked } else { Cause::OperatorAsked };
        let departure = Departure {
            account,
            instance: self.0.instances.leave_in(&tx, account, cause).await?,
            requested_by,
            state_before: person.state,
            requested_at: now,
            due: now.plus(self.0.instances.delete_after()),
            buried_at: None,
            cancelled_at: None,
        };
        store::insert_departure(&tx, &departure).await?;
        store::set_state(&tx, account, &[person.state], AccountState::Deleting).await?;
        store::end_sessions_of(&tx, account).await?;
        store::record(
            &tx,
            &self.0.clock,
            &AuditEntry { actor, action: "leave", subject: person.handle.as_str(), detail: "" },
        )
        .await?;
        tx.commit().await?;
        self.0.memory.forget(account);
        if let Some(id) = departure.instance {
            self.0.instances.admit(id).await?;
        }
        Ok(departure.due)
    }

    async fn cancel(&self, account: AccountId, actor: &str, cause: Cause) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let person = store::lock_account(&tx, account).await?.ok_or(Error::NotFound)?;
        let departure = store::departure(&*tx, account).await?.filter(|d| d.cancelled_at.is_none());
        let Some(departure) = departure else { return Ok(()) };
        let wish = if departure.state_before == AccountState::Suspended { Wish::Suspended } else { Wish::Stopped };
        store::note_cancelled(&tx, account, self.0.clock.now()).await?;
        if !store::set_state(&tx, account, &[AccountState::Deleting], departure.state_before).await? {
            return Err(deleted());
        }
        let instance = self.0.instances.keep_in(&tx, account, (wish, cause)).await?;
        store::record(
            &tx,
            &self.0.clock,
            &AuditEntry { actor, action: "keep", subject: person.handle.as_str(), detail: "" },
        )
        .await?;
        tx.commit().await?;
        self.0.memory.forget(account);
        if let Some(id) = instance {
            self.0.instances.admit(id).await?;
        }
        // At once where that is possible; else the next run does it.
        if let Err(error) = self.take_step(&Departure { cancelled_at: Some(self.0.clock.now()), ..departure }).await {
            tracing::warn!(account.id = %account, error = ?error, "a kept account's files are still marked; it is tried again");
        }
        Ok(())
    }

    async fn take_step(&self, departure: &Departure) -> Result<DeletionStep> {
        let step = next_step(departure, self.0.clock.now());
        let (account, instances) = (departure.account, &self.0.instances);
        match (step, departure.instance) {
            (DeletionStep::Wait, _) => {}
            (DeletionStep::UnmarkFiles, instance) => {
                if let Some(id) = instance {
                    instances.dig_up_files(id).await?;
                }
                let tx = self.0.db.begin().await?;
                store::remove_departure(&tx, account).await?;
                tx.commit().await?;
            }
            (DeletionStep::MarkFiles, instance) => {
                if let Some(id) = instance
                    && instances.bury_files(id).await? == Buried::NotYet
                {
                    return Ok(DeletionStep::Wait);
                }
                let tx = self.0.db.begin().await?;
                let now = self.0.clock.now();
                // The host counts from now on, and is not to be asked before its time is over.
                let due = departure.due.max(now.plus(instances.delete_after()));
                store::note_buried(&tx, account, now, due).await?;
                tx.commit().await?;
            }
            (DeletionStep::Destroy, instance) => {
                self.make_final(account).await?;
                if let Some(id) = instance {
                    instances.destroy_files(id).await?;
                }
                self.erase(departure).await?;
            }
        }
        Ok(step)
    }

    /// The point of no return: from here on nobody can keep the account, also when what follows has to be tried again.
    async fn make_final(&self, account: AccountId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::lock_account(&tx, account).await?;
        let departure = store::departure(&*tx, account).await?.filter(|d| d.cancelled_at.is_none());
        if departure.is_none()
            || !store::set_state(&tx, account, &[AccountState::Deleting, AccountState::Deleted], AccountState::Deleted)
                .await?
        {
            return Err(Error::Conflict("This account was kept meanwhile.".into()));
        }
        tx.commit().await
    }

    /// The last step: every row of the person goes in one transaction, and what stays of the account is its handle.
    async fn erase(&self, departure: &Departure) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let person = store::lock_account(&tx, departure.account).await?.ok_or(Error::NotFound)?;
        self.erase_rows(&tx, departure, &person.handle).await?;
        tx.commit().await?;
        self.0.memory.forget(person.id);
        if let Some(id) = departure.instance {
            self.0.instances.forget(id);
            self.0.mailbox.forget(id);
            self.0.domains.forget(id);
        }
        self.0.own_keys.forget(person.id);
        self.0.sharing.forget(departure.instance, &person.handle);
        tracing::info!(account.id = %person.id, "an account that left is gone");
        Ok(())
    }

    async fn erase_rows(&self, tx: &Tx, departure: &Departure, handle: &Handle) -> Result<()> {
        self.0.sharing.forget_in(tx, departure.instance, handle).await?;
        if let Some(id) = departure.instance {
            self.0.alarms.forget_in(tx, id).await?;
            self.0.mailbox.forget_in(tx, id).await?;
            self.0.domains.forget_in(tx, id).await?;
            self.0.instances.forget_in(tx, id).await?;
        }
        self.0.own_keys.forget_in(tx, departure.account).await?;
        store::end_sessions_of(tx, departure.account).await?;
        store::forget_devices_of(tx, departure.account).await?;
        store::remove_recovery_codes(tx, departure.account).await?;
        store::remove_passkeys_of(tx, departure.account).await?;
        store::blank_audit_of(tx, handle.as_str()).await?;
        store::empty_account(tx, departure.account).await?;
        store::remove_departure(tx, departure.account).await?;
        store::record(
            tx,
            &self.0.clock,
            &AuditEntry { actor: "berth", action: "gone", subject: handle.as_str(), detail: "" },
        )
        .await
    }
}

fn next_step(departure: &Departure, now: Timestamp) -> DeletionStep {
    match departure {
        Departure { cancelled_at: Some(_), .. } => DeletionStep::UnmarkFiles,
        Departure { buried_at: None, .. } => DeletionStep::MarkFiles,
        Departure { due, .. } if now < *due => DeletionStep::Wait,
        _ => DeletionStep::Destroy,
    }
}

pub(super) fn deleted() -> Error {
    Error::Conflict("This account is gone. Its handle is never given again.".into())
}
