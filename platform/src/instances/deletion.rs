//! Deletion: the only module that destroys files, and only those of a deleted account. The reconciler does not call
//! these functions.
//!
//! Each step may be taken twice, and a crash after any of them is no harm: the next run takes it again.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;

use super::rules::{Cause, Wish};
use super::wishes::ALL_WISHES;
use super::{Instances, store};
use crate::containers::ContainerState;
use crate::db::{AccountId, InstanceId, Tx};
use crate::error::{Error, Result};

/// How long the slot of a deleted instance, and with it its address, is kept unassigned: longer than any traffic to the
/// old address can still be in transit.
const SLOT_RESTS: Duration = Duration::from_secs(24 * 3600);

/// Whether the host was told, or is to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurialOutcome {
    Done,
    /// The container is still on its way to being stopped.
    NotYet,
}

impl Instances {
    /// How long an account that leaves can be kept, and its files lie buried.
    #[must_use]
    pub fn delete_after(&self) -> Duration {
        self.0.delete_after
    }

    /// Stops the instance of `account` permanently because the account is being deleted: wake requests are refused, and
    /// its files are destroyed later. Runs in the caller's transaction; call [`Instances::admit`] after the commit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leave_in(&self, tx: &Tx, account: AccountId, cause: Cause) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, Wish::Leaving, cause, &ALL_WISHES).await
    }

    /// Undoes [`Instances::leave_in`]: the instance stays stopped until it is next visited, or suspended where it was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_in(&self, tx: &Tx, account: AccountId, wish: Wish, cause: Cause) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, wish, cause, &[Wish::Leaving]).await
    }

    /// Marks the files of a leaving instance on the host, once its container is at rest: from then on the host counts
    /// the time as well.
    ///
    /// # Errors
    /// `Conflict` when it does not leave; when host or database do not answer.
    pub async fn bury_files(&self, id: InstanceId) -> Result<BurialOutcome> {
        self.expect_leaving(id).await?;
        let seen = self.0.host.inspect(id).await.with_context(|| format!("looking at instance {id}"))?;
        if seen.container.is_some_and(|container| container.state != ContainerState::Stopped) {
            return Ok(BurialOutcome::NotYet);
        }
        self.0.host.bury_volume(id).await.with_context(|| format!("burying the volume of instance {id}"))?;
        Ok(BurialOutcome::Done)
    }

    /// Undoes [`Instances::bury_files`].
    ///
    /// # Errors
    /// When the host does not answer.
    pub async fn dig_up_files(&self, id: InstanceId) -> Result<()> {
        Ok(self.0.host.unbury_volume(id).await.with_context(|| format!("digging up the volume of instance {id}"))?)
    }

    /// Destroys container and volume of a leaving instance, for ever. The host refuses while its own time is not over.
    ///
    /// # Errors
    /// `Conflict` when it does not leave; when host or database do not answer, or the host refuses.
    pub async fn destroy_files(&self, id: InstanceId) -> Result<()> {
        self.expect_leaving(id).await?;
        let host = &self.0.host;
        let seen = host.inspect(id).await.with_context(|| format!("looking at instance {id}"))?;
        if seen.container.is_some() {
            host.remove_container(id).await.with_context(|| format!("removing the container of instance {id}"))?;
        }
        if seen.volume {
            host.bury_volume(id).await.with_context(|| format!("burying the volume of instance {id}"))?;
        }
        Ok(host.destroy_volume(id).await.with_context(|| format!("destroying the volume of instance {id}"))?)
    }

    /// Deletes every row of an instance after its volume was destroyed, in the caller's transaction, and keeps its slot
    /// unassigned for `SLOT_RESTS`. Call [`Instances::forget`] after the commit. Idempotent: without such an instance
    /// it does nothing.
    ///
    /// # Errors
    /// When the database does not answer, or money is still held for a call of the instance.
    pub async fn forget_in(&self, tx: &Tx, id: InstanceId) -> Result<()> {
        store::delete(tx, id, self.0.clock.now().plus(SLOT_RESTS)).await
    }

    /// Evicts a deleted instance from memory: afterwards its handle and its token no longer resolve.
    pub fn forget(&self, id: InstanceId) {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Asked of the database and not of memory: what follows cannot be undone. No row is fine, its files may be left
    /// over.
    async fn expect_leaving(&self, id: InstanceId) -> Result<()> {
        match store::find(&self.0.db, id).await? {
            Some(record) if record.asked.wish != Wish::Leaving => {
                Err(Error::Conflict("This instance does not leave, so its files stay.".into()))
            }
            _ => Ok(()),
        }
    }
}
