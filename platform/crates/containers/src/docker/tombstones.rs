//! Tombstones (delayed deletion): which volumes may be destroyed, and when. Dated by this process's own clock, because
//! the platform that requests destruction faces the network and may be compromised.
//!
//! One file per volume, in a folder that only this process's user can write. A compromised platform can bury volumes,
//! which `berth doctor` counts, but it cannot shorten the grace period.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};

use super::file_systems::failed;
use crate::HostError;
use crate::config::ContainerConfig;

const SUFFIX: &str = ".buried";

/// The tombstones of one installation.
pub(super) struct Tombstones {
    dir: PathBuf,
    prefix: String,
    delete_after: Duration,
    clock: Clock,
}

impl Tombstones {
    pub(super) fn new(config: &ContainerConfig, clock: Clock) -> Self {
        Self {
            dir: config.volumes_dir(),
            prefix: format!("{}-", config.network),
            delete_after: config.delete_after,
            clock,
        }
    }

    /// Writes the tombstone of volume `name`, dated now. Idempotent: an existing one keeps its date.
    pub(super) fn bury(&self, name: &str) -> Result<(), HostError> {
        if self.buried_at(name)?.is_some() {
            return Ok(());
        }
        self.open_dir()?;
        // Atomic: written aside, synced and renamed. A tombstone truncated by a crash would have no date, and block its
        // volume for good.
        let (stone, unready) = (self.stone(name), self.dir.join(format!("{name}.burying")));
        let written = File::create(&unready).and_then(|mut file| {
            write!(file, "{}", self.clock.now().0)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&unready, &stone)).map_err(|error| failed("writing", &stone, &error))?;
        tracing::warn!("{name} is buried: it may be destroyed in {} seconds", self.delete_after.as_secs());
        Ok(())
    }

    /// Undoes [`Tombstones::bury`].
    pub(super) fn unbury(&self, name: &str) -> Result<(), HostError> {
        match std::fs::remove_file(self.stone(name)) {
            Ok(()) => {
                tracing::info!("{name} is buried no more");
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("removing", &self.stone(name), &error)),
        }
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
        self.open_dir()?;
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
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return 0 };
        let stones = entries.flatten().filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&self.prefix) && name.ends_with(SUFFIX))
        });
        u32::try_from(stones.count()).unwrap_or(u32::MAX)
    }

    /// Creates the folder, and refuses an existing one that another user could have put there or can write to.
    pub(super) fn open_dir(&self) -> Result<(), HostError> {
        let dir = &self.dir;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| failed("making", dir, &error))?;
        // Does not follow links: a link to a folder of ours would pass the checks.
        let there = std::fs::symlink_metadata(dir).map_err(|error| failed("looking at", dir, &error))?;
        let ours = there.is_dir() && there.uid() == rustix::process::geteuid().as_raw() && there.mode() & 0o022 == 0;
        if ours {
            return Ok(());
        }
        Err(HostError::Refused(format!(
            "{} is not a folder that only the provisioner's user may write; see who changed it",
            dir.display()
        )))
    }

    fn buried_at(&self, name: &str) -> Result<Option<Timestamp>, HostError> {
        let stone = self.stone(name);
        match std::fs::read_to_string(&stone) {
            Ok(text) => text.trim().parse().map(|ms| Some(Timestamp(ms))).map_err(|_| {
                HostError::Failed(format!("{} does not say since when; write it anew or remove it", stone.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &stone, &error)),
        }
    }

    fn stone(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }
}
