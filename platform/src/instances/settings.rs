//! What an operator or owner may change of an instance: image, size, how soon it sleeps, open ports.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::rules::SleepPolicy;
use super::{Inner, Instance, Instances, PortList, store};
use crate::error::{Error, Result};

/// What an operator may change of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceSettings {
    /// One of the allowed images, by name.
    pub image: String,
    /// One of the sizes, by name.
    pub size: String,
    /// Instead of the size's own, where it is set.
    pub freeze_after: Option<Duration>,
    pub stop_after: Option<Duration>,
    pub remove_after: Option<Duration>,
}

impl Instances {
    /// Gives the instance other terms. Its image and size reach it when it next starts, how soon it sleeps at once.
    ///
    /// # Errors
    /// `Invalid` when the image or size is not one of this server's, or it would be stopped before it is frozen.
    pub async fn set_terms(&self, instance: &Arc<Instance>, terms: InstanceSettings) -> Result<()> {
        self.0.check(&terms)?;
        let tx = self.0.db.begin().await?;
        if !store::set_terms(&tx, instance.id, &terms).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        self.admit(instance.id).await?;
        Ok(())
    }

    /// Opens these ports of the instance to its owner, and no others.
    ///
    /// # Errors
    /// `Invalid` when the contract's own port is among them.
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
        self.admit(instance.id).await?;
        Ok(())
    }
}

impl Inner {
    /// Whether an instance can be on these terms.
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

    /// How soon an instance on these terms sleeps. A size that is no longer there leaves the standard's.
    pub(super) fn policy(&self, terms: &InstanceSettings) -> SleepPolicy {
        let size = self.sizes.iter().find(|size| size.name == terms.size).unwrap_or(&self.sizes[0]);
        SleepPolicy {
            freeze_after: terms.freeze_after.unwrap_or(size.freeze_after),
            stop_after: terms.stop_after.unwrap_or(size.stop_after),
            remove_after: terms.remove_after.unwrap_or(size.remove_after),
        }
    }
}
