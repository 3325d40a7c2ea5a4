//! Upgrades with rollback: replaces the container on the same volume, and restores the previous one when the new one
//! does not become ready. The progress is committed before each change of a container, so that a crash can be resumed.

use std::sync::Arc;

use berth_containers::{ContainerState, HostError, ObservedInstance};
use berth_ground::clock::Timestamp;
use berth_ground::error::Error;

use super::reconciler::renewal;
use super::rules::{ContainerRenewal, Fact};
use super::steps::StepFailure;
use super::store::{self, UpgradeProgress};
use super::{Instance, Instances};
use crate::db::InstanceId;

/// The outcome of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// The container is current, and the instance is awake.
    Done,
    /// The new container did not become ready, and the previous one was restored.
    RolledBack,
    /// The upgrade failed for the given reason; it is retried.
    Failed(String),
    UnderWay,
}

impl Instances {
    /// The awake or frozen instances with an outdated container, by the state observed on the host: also correct in a
    /// process that does not run the reconciler.
    ///
    /// # Errors
    /// When the provisioner or the engine does not answer.
    pub async fn outdated(&self) -> Result<Vec<Arc<Instance>>, HostError> {
        let seen = self.0.host.list().await?;
        let is_outdated = |seen: &ObservedInstance| {
            let found = seen.container.as_ref().filter(|found| found.state != ContainerState::Stopped)?;
            let instance = self.by_id(seen.instance)?;
            let outdated = instance.with_state(|state| renewal(state, found) != ContainerRenewal::Current);
            outdated.then_some(instance)
        };
        Ok(seen.iter().filter_map(is_outdated).collect())
    }

    /// The outcome of the upgrade that was requested at `asked_at`, from the database and the state observed on the
    /// host.
    ///
    /// # Errors
    /// `NotFound` when the instance has no row; `Internal` when the provisioner or the engine does not answer.
    pub async fn renewed(&self, id: InstanceId, asked_at: Timestamp) -> Result<UpgradeOutcome, Error> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        if record.fact == Fact::Failed && record.fact_at >= asked_at {
            return Ok(UpgradeOutcome::Failed(record.failure.unwrap_or_default()));
        }
        let seen = self.0.host.inspect(id).await.map_err(|error| Error::Internal(error.into()))?;
        let (settings, is_at_rest) =
            (&record.settings, record.fact == Fact::Awake && record.upgrade.image_before.is_none());
        let Some(found) = seen.container.filter(|_| is_at_rest) else { return Ok(UpgradeOutcome::UnderWay) };
        Ok(if found.current && found.image == settings.image && found.size == settings.size {
            UpgradeOutcome::Done
        } else if found.made_at >= asked_at {
            UpgradeOutcome::RolledBack
        } else {
            UpgradeOutcome::UnderWay
        })
    }

    /// Creates the new container. The image to roll back to is committed first.
    pub(super) async fn upgrade_container(&self, instance: &Arc<Instance>) -> Result<(), StepFailure> {
        let upgrade = instance
            .with_state(|state| UpgradeProgress { image_before: state.image_id.clone(), ..state.upgrade.clone() });
        self.make_container_of(instance, upgrade, None).await
    }

    /// Creates the container from the image before the upgrade. When that image is gone or refused, the rollback is
    /// abandoned and the new container stays.
    pub(super) async fn roll_back(&self, instance: &Arc<Instance>) -> Result<(), StepFailure> {
        let upgrade = instance.with_state(|state| state.upgrade.clone());
        let made = self.make_container_of(instance, upgrade.clone(), upgrade.image_before.clone()).await;
        // Without `image_before` the next pass no longer decides on a rollback: it starts the newer container again
        // instead of failing forever.
        if let Err(StepFailure::Host(HostError::ImageMissing(_) | HostError::Refused(_))) = made {
            self.write_upgrade(instance, UpgradeProgress { image_before: None, ..upgrade }).await?;
        }
        made
    }

    /// Decides on a rollback after a failed step: true, and recorded, when the container of an upgrade did not become
    /// ready and there is an image to roll back to.
    pub(super) async fn must_roll_back(&self, instance: &Arc<Instance>, failure: &StepFailure) -> bool {
        if !matches!(failure, StepFailure::NotReady(_)) {
            return false;
        }
        let (upgrade, image) = instance.with_state(|state| (state.upgrade.clone(), state.image_id.clone()));
        let Some(before) = upgrade.image_before.as_ref().filter(|before| Some(*before) != image.as_ref()) else {
            return false;
        };
        tracing::warn!(instance.id = %instance.id, handle = %instance.handle, image, before, ?failure, "a newer container did not become ready; rolling back");
        instance.with_state(|state| state.observed = None);
        let refused = self.write_upgrade(instance, UpgradeProgress { image_refused: image, ..upgrade }).await;
        refused.is_ok()
    }

    /// Ends an upgrade in progress, because the container is ready.
    pub(super) async fn end_upgrade(&self, instance: &Arc<Instance>) -> Result<(), Error> {
        let (upgrade, image) = instance.with_state(|state| (state.upgrade.clone(), state.image_id.clone()));
        if upgrade.image_before.is_none() {
            return Ok(());
        }
        // A refused image is remembered after a rollback only: otherwise the next start would try the same upgrade
        // again.
        let rolled_back = upgrade.image_before == image && upgrade.image_refused.is_some();
        let image_refused = upgrade.image_refused.filter(|_| rolled_back);
        tracing::info!(instance.id = %instance.id, handle = %instance.handle, rolled_back, "an upgrade is over");
        self.write_upgrade(instance, UpgradeProgress { image_before: None, image_refused, ..upgrade }).await
    }

    async fn write_upgrade(&self, instance: &Arc<Instance>, upgrade: UpgradeProgress) -> Result<(), Error> {
        let tx = self.0.db.begin().await?;
        store::set_upgrade(&tx, instance.id, &upgrade).await?;
        tx.commit().await?;
        instance.with_state(|state| state.upgrade = upgrade);
        Ok(())
    }
}
