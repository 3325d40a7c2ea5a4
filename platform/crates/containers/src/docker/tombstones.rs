//! Tombstones (delayed deletion): which volumes may be destroyed, and when. Dated by this process's own clock, because
//! the platform that requests destruction faces the network and may be compromised.
//!
//! One file per volume, in a folder that only this process's user can write or replace. A compromised platform can bury
//! volumes, which `berth doctor` counts, but it cannot shorten the grace period.

use std::sync::Arc;
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};

use super::volume_folder::VolumeFolder;
use crate::HostError;
use crate::config::ContainerConfig;

const SUFFIX: &str = ".buried";

/// The tombstones of one installation.
pub(super) struct Tombstones {
    folder: Arc<VolumeFolder>,
    prefix: String,
    delete_after: Duration,
    clock: Clock,
}

impl Tombstones {
    pub(super) fn new(config: &ContainerConfig, folder: Arc<VolumeFolder>, clock: Clock) -> Self {
        Self { folder, prefix: format!("{}-", config.network), delete_after: config.delete_after, clock }
    }

    /// Writes the tombstone of volume `name`, dated now. Idempotent: an existing one keeps its date.
    pub(super) fn bury(&self, name: &str) -> Result<(), HostError> {
        if self.buried_at(name)?.is_some() {
            return Ok(());
        }
        // Atomic: a tombstone truncated by a crash would have no date, and block its volume for good.
        self.folder.write(&stone(name), &self.clock.now().0.to_string())?;
        tracing::warn!("{name} is buried: it may be destroyed in {} seconds", self.delete_after.as_secs());
        Ok(())
    }

    /// Undoes [`Tombstones::bury`].
    pub(super) fn unbury(&self, name: &str) -> Result<(), HostError> {
        if self.folder.remove(&stone(name))? {
            tracing::info!("{name} is buried no more");
        }
        Ok(())
    }

    /// Refuses a volume that has a tombstone.
    pub(super) fn refuse_if_buried(&self, name: &str) -> Result<(), HostError> {
        match self.buried_at(name)? {
            None => Ok(()),
            Some(_) => {
                Err(HostError::Refused(format!("{name} waits to be destroyed; its account has to be kept first")))
            }
        }
    }

    /// Refuses a volume without a tombstone, or with one that is too recent.
    pub(super) fn refuse_unless_due(&self, name: &str) -> Result<(), HostError> {
        let buried_at = self.buried_at(name)?.ok_or_else(|| HostError::Refused(format!("{name} was never buried")))?;
        // A clock that was set back makes the age zero, which only delays.
        let age = self.clock.now().since(buried_at);
        if age < self.delete_after {
            let left = (self.delete_after - age).as_secs();
            return Err(HostError::Refused(format!("{name} is to be kept for another {left} seconds")));
        }
        Ok(())
    }

    pub(super) fn is_buried(&self, name: &str) -> Result<bool, HostError> {
        Ok(self.buried_at(name)?.is_some())
    }

    /// The number of this installation's tombstones.
    pub(super) fn count(&self) -> u32 {
        // An unreadable folder counts as none: this number is for a report and decides nothing.
        let names = self.folder.names().unwrap_or_default();
        let stones = names.iter().filter(|name| name.starts_with(&self.prefix) && name.ends_with(SUFFIX));
        u32::try_from(stones.count()).unwrap_or(u32::MAX)
    }

    fn buried_at(&self, name: &str) -> Result<Option<Timestamp>, HostError> {
        let Some(text) = self.folder.read(&stone(name))? else { return Ok(None) };
        text.trim().parse().map(|ms| Some(Timestamp(ms))).map_err(|_| {
            HostError::Failed(format!(
                "{} does not say since when; write it anew or remove it",
                self.folder.path_of(&stone(name)).display()
            ))
        })
    }
}

fn stone(name: &str) -> String {
    format!("{name}{SUFFIX}")
}
