//! Instance settings: image, size and idle timeouts (set by the operator) and open ports (set by the owner).

use std::sync::Arc;

use berth_ground::error::{Error, Result};

use super::rules::SleepPolicy;
use super::{Inner, Instance, InstanceSettings, Instances, PortList, store};

impl Instances {
    /// Replaces the settings. A new image or size applies at the next start, new idle timeouts at once.
    ///
    /// # Errors
    /// `Invalid` for an unknown image or size, or for idle timeouts that do not increase from freezing to removal.
    pub async fn set_settings(&self, instance: &Arc<Instance>, settings: InstanceSettings) -> Result<()> {
        self.0.check(&settings)?;
        let tx = self.0.db.begin().await?;
        if !store::set_settings(&tx, instance.id, &settings).await? {
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
    fn check(&self, settings: &InstanceSettings) -> Result<()> {
        let invalid = |field, message| Err(Error::Invalid { field, message });
        if !self.images.contains(&settings.image) {
            return invalid("image", format!("The images of this server are: {}.", self.images.join(", ")));
        }
        if !self.sizes.iter().any(|size| size.name == settings.size) {
            let names: Vec<_> = self.sizes.iter().map(|size| size.name.as_str()).collect();
            return invalid("size", format!("The sizes of this server are: {}.", names.join(", ")));
        }
        let policy = self.policy(settings);
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
    pub(super) fn policy(&self, settings: &InstanceSettings) -> SleepPolicy {
        let size = self.sizes.iter().find(|size| size.name == settings.size).unwrap_or(&self.sizes[0]);
        SleepPolicy {
            freeze_after: settings.freeze_after.unwrap_or(size.freeze_after),
            stop_after: settings.stop_after.unwrap_or(size.stop_after),
            remove_after: settings.remove_after.unwrap_or(size.remove_after),
        }
    }
}
