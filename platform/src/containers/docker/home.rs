//! Makes the root of an instance's volume the instance's own, whatever the image carries.
//!
//! An image with a `/home/berth` of uid 10001 passes its owner on to an empty volume (the Engine's copy-up). Any
//! other image leaves the root to uid 0, and the instance could not write. The Engine is therefore handed an archive with
//! one entry, the directory itself, and extracts it over the mounted volume: owner set, contents untouched, no
//! program needed inside the image, and no view of the host's file systems needed here.

use bollard::Docker;
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, UploadToContainerOptionsBuilder};

use super::host_config::{HOME, UID};
use crate::clock::Timestamp;
use crate::containers::HostError;

/// Gives the volume's root of the stopped container `name` to the instance's user. Its mode stays as it is.
pub(super) async fn give(engine: &Docker, name: &str, now: Timestamp) -> Result<(), HostError> {
    let stat = ContainerArchiveInfoOptionsBuilder::default().path(HOME).build();
    let mode = engine.get_container_archive_info(name, Some(stat)).await?.file_mode & 0o777;
    let upload = UploadToContainerOptionsBuilder::default().path(HOME).no_overwrite_dir_non_dir("true").build();
    let archive = archive(mode, now.seconds().max(0).unsigned_abs());
    Ok(engine.upload_to_container(name, Some(upload), bollard::body_full(archive.into())).await?)
}

/// A tar archive of one directory, `./` (POSIX.1-1988 ustar: one header block, two blocks of zeros at the end).
fn archive(mode: u32, modified: u64) -> Vec<u8> {
    let mut archive = vec![0; 3 * 512];
    let mut put = |at: usize, text: &str| archive[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "./");
    put(100, &format!("{mode:07o}"));
    put(108, &format!("{UID:07o}"));
    put(116, &format!("{UID:07o}"));
    put(124, &format!("{:011o}", 0));
    put(136, &format!("{modified:011o}"));
    put(148, "        ");
    put(156, "5");
    put(257, "ustar\x0000");
    let sum: u32 = archive[..512].iter().copied().map(u32::from).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive
}
