//! Account deletion: scheduled, cancellable during a grace period, then final. It destroys the account's credentials
//! and its instance with all files.
//!
//! Two things stay: the handle, which is never reassigned, and the receipts of AI calls, without which the ledger would
//! not add up. A scheduled deletion is a row of the table `departures`, hence [`DeletionRecord`]. A background job
//! takes the next step of every row; each step is idempotent, so that the next run repairs a crash in the middle.

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;

use super::passkeys::STEP_UP_WINDOW;
use super::sessions::LogInMethod;
use super::store::{self, AuditEntry, DeletionRecord, DeletionRequester};
use super::{AccountState, Accounts, ScheduledDeletion, Session};
use crate::db::{AccountId, Tx};
use crate::instances::{Cause, MarkOutcome, Wish};
use crate::modules::{DeletedAccount, Modules};

/// Deletions that one run of the job advances: bounds the duration of a run.
const DELETIONS_PER_RUN: u64 = 100;

/// The next step of a scheduled deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeletionStep {
    /// The deletion was cancelled: take the mark off the files on the host.
    UnmarkFiles,
    /// Mark the files for destruction. From then on the host measures the grace period by its own clock.
    MarkFiles,
    /// The grace period is not over.
    Wait,
    /// Destroy the files and erase the account's rows.
    Destroy,
}

impl Accounts {
    /// Schedules the deletion of the caller's account: ends every session, stops the instance, and returns the time of
    /// destruction. `typed` is the account's handle as typed into the form, which prevents a deletion by accident.
    ///
    /// # Errors
    /// `Invalid` for another handle; `Forbidden` unless the last login used a passkey and is at most ten minutes old.
    pub async fn schedule_deletion(&self, session: &Session, typed: &str) -> Result<Timestamp> {
        if typed.trim().to_ascii_lowercase() != session.handle.as_str() {
            return Err(Error::invalid("handle", "This is not your handle. Type it to say that you mean it."));
        }
        let stored = self.app_session(session).await?;
        let fresh = self.0.clock.now().since(stored.passkey_at) <= STEP_UP_WINDOW;
        // A recovery code is enough to log in but not to delete: a thief who found the printed codes could otherwise
        // destroy everything before the owner notices.
        if !fresh || stored.method == LogInMethod::Recovery.as_str() {
            return Err(Error::Forbidden(
                "To delete your account, please log out and in again with your passkey: your last login was by a recovery \
                 code, or is more than ten minutes ago."
                    .into(),
            ));
        }
        self.schedule(session.account, DeletionRequester::Owner, session.handle.as_str()).await
    }

    /// Schedules a deletion for the operator, who alone can cancel it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is scheduled for deletion or deleted already.
    pub async fn schedule_deletion_of(&self, handle: &Handle, actor: &str) -> Result<Timestamp> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        self.schedule(person.id, DeletionRequester::Operator, actor).await
    }

    /// Cancels the deletion of the caller's account. Does nothing without a scheduled deletion.
    ///
    /// # Errors
    /// `Forbidden` when the operator scheduled it.
    pub async fn cancel_deletion(&self, session: &Session) -> Result<()> {
        match store::departure(self.0.db.read(), session.account).await? {
            None => Ok(()),
            Some(departure) if departure.requested_by == DeletionRequester::Operator => Err(Error::Forbidden(
                "The operator of this server is deleting this account, so only the operator can cancel it.".into(),
            )),
            Some(_) => self.cancel(session.account, session.handle.as_str(), Cause::OwnerAsked).await,
        }
    }

    /// Cancels a deletion for the operator, whoever scheduled it. Idempotent.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the account is already deleted.
    pub async fn cancel_deletion_of(&self, handle: &Handle, actor: &str) -> Result<()> {
        let person = store::account_by_handle(self.0.db.read(), handle).await?.ok_or(Error::NotFound)?;
        if person.state == AccountState::Deleted {
            return Err(deleted());
        }
        self.cancel(person.id, actor, Cause::OperatorAsked).await
    }

    /// The scheduled deletion of the caller's account; `None` if there is none or it was cancelled.
    pub async fn scheduled_deletion(&self, session: &Session) -> Result<Option<ScheduledDeletion>> {
        let departure = store::departure(self.0.db.read(), session.account).await?;
        let departure = departure.filter(|departure| departure.cancelled_at.is_none());
        Ok(departure
            .map(|d| ScheduledDeletion { due: d.due, owner_may_cancel: d.requested_by == DeletionRequester::Owner }))
    }

    /// Takes the next step of every scheduled deletion and returns the number of accounts that were deleted. A failed
    /// step is logged and retried by the next run; the others continue. `modules` are all modules that may hold rows of
    /// an account.
    pub async fn advance_deletions(&self, modules: &Modules) -> Result<u64> {
        let mut deleted = 0;
        for departure in store::departures(self.0.db.read(), DELETIONS_PER_RUN).await? {
            match self.take_step(&departure, modules).await {
                Ok(DeletionStep::Destroy) => deleted += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(account.id = %departure.account, error = ?error, "a step of an account deletion failed; it is retried")
                }
            }
        }
        Ok(deleted)
    }

    async fn schedule(&self, account: AccountId, requested_by: DeletionRequester, actor: &str) -> Result<Timestamp> {
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let person = store::lock_account(&tx, account).await?.ok_or(Error::NotFound)?;
        if person.state == AccountState::Deleted {
            return Err(deleted());
        }
        // The row of a cancelled deletion stays until its files are unmarked on the host. A new deletion must not start
        // before: the host would count the time of the old mark and destroy the files too early.
        if store::departure(&tx, account).await?.is_some() {
            return Err(Error::Conflict(
                "This account is scheduled for deletion already, or that was cancelled just now: try again in a minute.".into(),
            ));
        }
        let cause = if requested_by == DeletionRequester::Owner { Cause::OwnerAsked } else { Cause::OperatorAsked };
        let departure = DeletionRecord {
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
        let entry = AuditEntry { actor, action: "leave", subject: person.handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        // Order: after the commit. Before it, a concurrent request could cache the old row again, and the reconciler
        // would not see the new wish.
        self.0.session_cache.invalidate(account);
        if let Some(id) = departure.instance {
            self.0.instances.load_committed(id).await?;
        }
        Ok(departure.due)
    }

    async fn cancel(&self, account: AccountId, actor: &str, cause: Cause) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let person = store::lock_account(&tx, account).await?.ok_or(Error::NotFound)?;
        let departure = store::departure(&tx, account).await?.filter(|d| d.cancelled_at.is_none());
        let Some(departure) = departure else { return Ok(()) };
        let wish = if departure.state_before == AccountState::Suspended { Wish::Suspended } else { Wish::Stopped };
        store::note_cancelled(&tx, account, self.0.clock.now()).await?;
        if !store::set_state(&tx, account, &[AccountState::Deleting], departure.state_before).await? {
            return Err(deleted());
        }
        let instance = self.0.instances.keep_in(&tx, account, wish, cause).await?;
        let entry = AuditEntry { actor, action: "keep", subject: person.handle.as_str(), detail: "" };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.session_cache.invalidate(account);
        if let Some(id) = instance {
            self.0.instances.load_committed(id).await?;
        }
        // Unmarking needs the host, which may be unavailable. The cancellation is committed, so the next run completes
        // it.
        if let Err(error) = self.unmark_files(&departure).await {
            tracing::warn!(account.id = %account, error = ?error, "the files of a cancelled deletion are still marked on the host; unmarking is retried");
        }
        Ok(())
    }

    async fn take_step(&self, departure: &DeletionRecord, modules: &Modules) -> Result<DeletionStep> {
        let step = next_step(departure, self.0.clock.now());
        let (account, instances) = (departure.account, &self.0.instances);
        match (step, departure.instance) {
            (DeletionStep::Wait, _) => {}
            (DeletionStep::UnmarkFiles, _) => self.unmark_files(departure).await?,
            (DeletionStep::MarkFiles, instance) => {
                if let Some(id) = instance
                    && instances.mark_files(id).await? == MarkOutcome::NotYet
                {
                    return Ok(DeletionStep::Wait);
                }
                let tx = self.0.db.begin().await?;
                let now = self.0.clock.now();
                // The host measures the grace period from now on and refuses to destroy earlier. So the due time moves
                // to the end of the host's period.
                let due = departure.due.max(now.plus(instances.delete_after()));
                store::note_buried(&tx, account, now, due).await?;
                tx.commit().await?;
            }
            (DeletionStep::Destroy, instance) => {
                // Order: state, files, rows. A crash in between leaves the row of the departure, from which the next
                // run continues; each of the three is idempotent.
                self.make_final(account).await?;
                if let Some(id) = instance {
                    instances.destroy_files(id).await?;
                }
                self.erase(departure, modules).await?;
            }
        }
        Ok(step)
    }

    async fn unmark_files(&self, departure: &DeletionRecord) -> Result<()> {
        if let Some(id) = departure.instance {
            self.0.instances.unmark_files(id).await?;
        }
        let tx = self.0.db.begin().await?;
        store::remove_departure(&tx, departure.account).await?;
        tx.commit().await
    }

    /// Makes the deletion final before anything is destroyed. Otherwise a cancellation between two retries of the
    /// destruction would restore an account without files.
    async fn make_final(&self, account: AccountId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::lock_account(&tx, account).await?;
        let departure = store::departure(&tx, account).await?.filter(|d| d.cancelled_at.is_none());
        if departure.is_none()
            || !store::set_state(&tx, account, &[AccountState::Deleting, AccountState::Deleted], AccountState::Deleted)
                .await?
        {
            return Err(Error::Conflict("The deletion of this account was cancelled meanwhile.".into()));
        }
        tx.commit().await
    }

    /// The last step: erases every row of the account in one transaction, except the handle.
    async fn erase(&self, departure: &DeletionRecord, modules: &Modules) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let account = store::lock_account(&tx, departure.account).await?.ok_or(Error::NotFound)?;
        let deleted = DeletedAccount { id: account.id, handle: account.handle, instance: departure.instance };
        modules.delete_account_rows(&tx, &deleted).await?;
        self.delete_own_rows(&tx, &deleted).await?;
        tx.commit().await?;
        self.0.session_cache.invalidate(deleted.id);
        modules.forget_account(&deleted);
        tracing::info!(account.id = %deleted.id, "an account was deleted");
        Ok(())
    }

    async fn delete_own_rows(&self, tx: &Tx, deleted: &DeletedAccount) -> Result<()> {
        // Order: after the rows of the other modules, which reference the account.
        store::end_sessions_of(tx, deleted.id).await?;
        store::forget_devices_of(tx, deleted.id).await?;
        store::remove_recovery_codes(tx, deleted.id).await?;
        store::remove_passkeys_of(tx, deleted.id).await?;
        store::blank_audit_of(tx, deleted.handle.as_str()).await?;
        store::empty_account(tx, deleted.id).await?;
        store::remove_departure(tx, deleted.id).await?;
        let entry = AuditEntry { actor: "berth", action: "gone", subject: deleted.handle.as_str(), detail: "" };
        store::record(tx, &self.0.clock, &entry).await
    }
}

fn next_step(departure: &DeletionRecord, now: Timestamp) -> DeletionStep {
    match departure {
        DeletionRecord { cancelled_at: Some(_), .. } => DeletionStep::UnmarkFiles,
        DeletionRecord { buried_at: None, .. } => DeletionStep::MarkFiles,
        DeletionRecord { due, .. } if now < *due => DeletionStep::Wait,
        _ => DeletionStep::Destroy,
    }
}

pub(super) fn deleted() -> Error {
    Error::Conflict("This account was deleted. Its handle is never given again.".into())
}
