//! Instance settings: image, size and idle timeouts (set by the operator) and open ports (set by the owner).

use std::sync::Arc;

use super::rules::SleepPolicy;
use super::{Inner, Instance, InstanceSettings, Instances, PortList, store};
use crate::error::{Error, Result};

impl Instances {
    /// Replaces the settings. A new image or size applies at the next start, new idle timeouts at once.
    ///
    /// # Errors
    /// `Invalid` for an unknown image or size, or for idle timeouts that do not increase from freezing to removal.
    pub async fn set_terms(&self, instance: &Arc<Instance>, terms: InstanceSettings) -> Result<()> {
        self.0.check(&terms)?;
        let tx = self.0.db.begin().await?;
        if !store::set_terms(&tx, instance.id, &terms).await? {
            return Err(Error::NotFound);
        }
        // The cache is refreshed from the committed row, as after a change by another process: one path for both.
        tx.commit().await?;
        self.load_committed(instance.id).await?;
        Ok(())
    }

    /// Replaces the set of open ports.
    ///
    /// # Errors
    /// `Invalid` when the port of the instance contract is among them.
    pub async fn set_ports(&self, instance: &Arc<Instance>, ports: &PortList) -> Result<()> {
        if ports.contains(self.0.port) {
            let sentence = format!("Port {} is what the instance's own address leads to.", self.0.port);
            return Err(Error::invalid("ports", sentence));
        }
        let tx = self.0.db.begin().await?;
        if !store::set_ports(&tx, instance.id, ports).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        self.load_committed(instance.id).await?;
        Ok(())
    }
}

impl Inner {
    /// Validates settings.
    fn check(&self, terms: &InstanceSettings) -> Result<()> {
        let invalid = |field, message| Err(Error::Invalid { field, message });
        if !self.images.contains(&terms.image) {
            return invalid("image", format!("The images of this server are: {}.", self.images.join(", ")));
        }
        if !self.sizes.iter().any(|size| size.name == terms.size) {
            let names: Vec<_> = self.sizes.iter().map(|size| size.name.as_str()).collect();
            return invalid("size", format!("The sizes of this server are: {}.", names.join(", ")));
        }
        let policy = self.policy(terms);
        if policy.freeze_after.is_zero() || policy.stop_after <= policy.freeze_after {
            return invalid("stop_after", "An instance is frozen first and stopped later.".into());
        }
        if policy.remove_after <= policy.stop_after {
            return invalid("remove_after", "An instance is stopped first and its container removed later.".into());
        }
        Ok(())
    }

    /// The sleep policy of these settings. A size that was removed from the configuration falls back to the default
    /// size.
    pub(super) fn policy(&self, terms: &InstanceSettings) -> SleepPolicy {
        let size = self.sizes.iter().find(|size| size.name == terms.size).unwrap_or(&self.sizes[0]);
        SleepPolicy {
            freeze_after: terms.freeze_after.unwrap_or(size.freeze_after),
            stop_after: terms.stop_after.unwrap_or(size.stop_after),
            remove_after: terms.remove_after.unwrap_or(size.remove_after),
        }
    }
}
