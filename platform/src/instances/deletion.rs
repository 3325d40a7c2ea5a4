//! Deletion of an instance: tombstone, grace period, irreversible destruction of container and volume. This is the only
//! code that destroys files, and only those of a deleted account. The reconciler does not call these functions.
//!
//! Every step is idempotent: after a crash the next run of the scheduled work repeats it.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use berth_containers::ContainerState;
use berth_ground::error::{Error, Result};

use super::rules::{Cause, Wish};
use super::wishes::ALL_WISHES;
use super::{Instances, store};
use crate::db::{AccountId, InstanceId, Tx};

/// Quarantine of a deleted instance's slot, and with it of its address: longer than any traffic to the old address can
/// still be in transit.
const SLOT_QUARANTINE: Duration = Duration::from_secs(24 * 3600);

/// Whether the tombstone is on the volume, or the caller must retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkOutcome {
    /// The volume has its tombstone.
    Done,
    /// The container has not stopped yet.
    NotYet,
}

impl Instances {
    /// The grace period: how long a deletion can be cancelled, and how long the host keeps a volume with a tombstone.
    #[must_use]
    pub fn delete_after(&self) -> Duration {
        self.0.delete_after
    }

    /// Stops the instance of `account` permanently because the account is being deleted: wake requests are refused, and
    /// its files are destroyed later. Runs in the caller's transaction; call [`Instances::load_committed`] after the
    /// commit.
    pub async fn leave_in(&self, tx: &Tx, account: AccountId, cause: Cause) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, Wish::Leaving, cause, &ALL_WISHES).await
    }

    /// Undoes [`Instances::leave_in`]: sets the wish to `wish`, which is stopped or suspended. A compare-and-set: any
    /// wish other than leaving stays as it is.
    pub async fn keep_in(&self, tx: &Tx, account: AccountId, wish: Wish, cause: Cause) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, wish, cause, &[Wish::Leaving]).await
    }

    /// Puts a tombstone on the volume of a leaving instance, once its container has stopped. From then on the host's
    /// own clock counts the grace period too.
    ///
    /// # Errors
    /// `Conflict` when the instance is not leaving; `Internal` when the host does not answer.
    pub async fn mark_files(&self, id: InstanceId) -> Result<MarkOutcome> {
        self.expect_leaving(id).await?;
        let seen = self.0.host.inspect(id).await.with_context(|| format!("looking at instance {id}"))?;
        if seen.container.is_some_and(|container| container.state != ContainerState::Stopped) {
            return Ok(MarkOutcome::NotYet);
        }
        self.0.host.bury_volume(id).await.with_context(|| format!("burying the volume of instance {id}"))?;
        Ok(MarkOutcome::Done)
    }

    /// Undoes [`Instances::mark_files`].
    ///
    /// # Errors
    /// `Internal` when the host does not answer.
    pub async fn unmark_files(&self, id: InstanceId) -> Result<()> {
        Ok(self.0.host.unbury_volume(id).await.with_context(|| format!("digging up the volume of instance {id}"))?)
    }

    /// Destroys container and volume of a leaving instance, irreversibly. The host refuses before its own grace period
    /// is over.
    ///
    /// # Errors
    /// `Conflict` when the instance is not leaving; `Internal` when the host refuses or does not answer.
    pub async fn destroy_files(&self, id: InstanceId) -> Result<()> {
        self.expect_leaving(id).await?;
        let host = &self.0.host;
        let seen = host.inspect(id).await.with_context(|| format!("looking at instance {id}"))?;
        // The order is the host's: it refuses to destroy a volume that a container uses, or that has no tombstone.
        if seen.container.is_some() {
            host.remove_container(id).await.with_context(|| format!("removing the container of instance {id}"))?;
        }
        if seen.volume {
            host.bury_volume(id).await.with_context(|| format!("burying the volume of instance {id}"))?;
        }
        Ok(host.destroy_volume(id).await.with_context(|| format!("destroying the volume of instance {id}"))?)
    }

    /// Deletes every row of an instance after its volume was destroyed, in the caller's transaction, and quarantines
    /// its slot for `SLOT_QUARANTINE`. Call [`Instances::forget`] after the commit. Idempotent: without such an
    /// instance it does nothing.
    ///
    /// # Errors
    /// `Internal` while rows of another module refer to the instance (foreign keys): the caller deletes those first.
    pub async fn forget_in(&self, tx: &Tx, id: InstanceId) -> Result<()> {
        store::delete(tx, id, self.0.clock.now().plus(SLOT_QUARANTINE)).await
    }

    /// Evicts a deleted instance from memory: afterwards its handle and its token no longer resolve.
    pub fn forget(&self, id: InstanceId) {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Reads the database and not the cache, because deletion is irreversible. A missing row is valid: its files may
    /// still exist.
    async fn expect_leaving(&self, id: InstanceId) -> Result<()> {
        match store::find(&self.0.db, id).await? {
            Some(record) if record.asked.wish != Wish::Leaving => {
                Err(Error::Conflict("This instance does not leave, so its files stay.".into()))
            }
            _ => Ok(()),
        }
    }
}
