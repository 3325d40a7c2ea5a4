//! Disk watermarks: the usage of disks, and the thresholds above which nothing new is created or started.
//!
//! The thresholds reserve space for running instances: volumes are sparse files, and their sum is overcommitted.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::{DiskUsage, HostError};

/// The usage in percent from which no volume is created.
pub(super) const CREATE_BELOW: u8 = 80;
/// The usage in percent from which no container is created or started.
pub(super) const START_BELOW: u8 = 90;

/// The usage of every disk that holds one of `folders`, each disk once. Folders that are not visible here are omitted:
/// a provisioner in a container does not see the Engine's data.
pub(super) fn used(folders: &[(&str, &Path)]) -> Vec<DiskUsage> {
    let mut seen = Vec::new();
    let mut disks: Vec<DiskUsage> = Vec::new();
    for (holds, folder) in folders {
        let Some(there) = nearest(folder) else { continue };
        let (Ok(metadata), Ok(disk)) = (std::fs::metadata(&there), rustix::fs::statvfs(&there)) else { continue };
        // Folders with the same device number are on one disk, which is listed once.
        if let Some(at) = seen.iter().position(|device| *device == metadata.dev()) {
            let known: &mut DiskUsage = &mut disks[at];
            known.holds = format!("{}, {holds}", known.holds);
            continue;
        }
        seen.push(metadata.dev());
        disks.push(DiskUsage {
            holds: (*holds).to_owned(),
            used_percent: percent(disk.f_blocks - disk.f_bfree, disk.f_bavail),
            inodes_used_percent: percent(disk.f_files - disk.f_ffree, disk.f_ffree),
        });
    }
    disks
}

/// Refuses if any disk is at `limit` percent or above, in blocks or in inodes.
pub(super) fn refuse_from(limit: u8, disks: &[DiskUsage]) -> Result<(), HostError> {
    match disks.iter().find(|disk| disk.fullest() >= limit) {
        None => Ok(()),
        Some(disk) => {
            tracing::error!(
                used_percent = disk.used_percent,
                inodes_used_percent = disk.inodes_used_percent,
                "the disk with {} is at {limit} % or above: nothing new starts on it",
                disk.holds
            );
            Err(HostError::DiskFull)
        }
    }
}

/// `folder` or its nearest existing ancestor: a folder that does not exist yet will be created on that disk.
fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.exists()).map(Path::to_path_buf)
}

/// Used space in percent, rounded up, as `df` counts: blocks reserved for root are neither used nor free.
fn percent(used: u64, free: u64) -> u8 {
    let all = used.saturating_add(free);
    if all == 0 {
        // Some file systems have no fixed number of inodes and report zero.
        return 0;
    }
    u8::try_from(used.saturating_mul(100).div_ceil(all)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(used_percent: u8, inodes_used_percent: u8) -> DiskUsage {
        DiskUsage { holds: "volumes".into(), used_percent, inodes_used_percent }
    }

    #[test]
    fn a_disk_is_full_by_its_blocks_or_by_its_inodes() {
        for (disks, full) in [
            (vec![disk(79, 79)], false),
            (vec![disk(80, 0)], true),
            (vec![disk(0, 80)], true),
            (vec![disk(10, 10), disk(99, 1)], true),
            (vec![], false),
        ] {
            assert_eq!(refuse_from(CREATE_BELOW, &disks).is_err(), full, "{disks:?}");
        }
    }

    #[test]
    fn folders_on_one_disk_are_one_disk() {
        let here = std::env::temp_dir();
        let disks = used(&[("a", &here), ("b", &here.join("not/there/yet")), ("c", Path::new("relative-and-absent"))]);
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].holds, "a, b");
    }

    #[test]
    fn percents_are_rounded_up() {
        for (used, free, is) in [(0, 0, 0), (0, 10, 0), (1, 999, 1), (80, 20, 80), (10, 0, 100)] {
            assert_eq!(percent(used, free), is);
        }
    }
}
