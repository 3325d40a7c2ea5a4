//! Volume ownership: changes the owner of a volume's root directory to the instance's user, whatever the image
//! contains.
//!
//! If the image has a `/home/berth` of uid 10001, an empty volume inherits that owner (the Engine's copy-up). With any
//! other image the root belongs to uid 0, and the instance could not write. So the Engine gets an archive with a single
//! entry, the directory itself, and extracts it over the mounted volume. That sets the owner and leaves the contents
//! untouched; it needs no program inside the image and no access to the host's file systems. Archives are tar: a header
//! of 512 bytes with numbers in octal (POSIX.1-1988, ustar).

use berth_ground::clock::Timestamp;
use bollard::Docker;
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use futures_util::TryStreamExt as _;

use super::host_config::{HOME, UID};
use crate::HostError;

const BLOCK: usize = 512;
const MODE: usize = 100;
const OWNER: usize = 108;
const GROUP: usize = 116;

/// Gives the root of the volume of the stopped container `name` to the instance's user, and keeps its mode.
pub(super) async fn give(engine: &Docker, name: &str, now: Timestamp) -> Result<(), HostError> {
    let there = header(engine, name).await?;
    if number(&there, OWNER) == u64::from(UID) {
        return Ok(());
    }
    let archive = archive(number(&there, MODE) & 0o777, now.seconds().max(0).unsigned_abs());
    let upload = UploadToContainerOptionsBuilder::default().path(HOME).no_overwrite_dir_non_dir("true").build();
    engine.upload_to_container(name, Some(upload), bollard::body_full(archive.into())).await?;
    // Verified, because no documentation specifies how an Engine treats the root entry of an archive.
    match number(&header(engine, name).await?, OWNER) {
        owner if owner == u64::from(UID) => Ok(()),
        owner => Err(HostError::Refused(format!(
            "the volume of {name} belongs to uid {owner} and this Engine does not change that; use an image that has \
             {HOME} with owner {UID}"
        ))),
    }
}

/// The first header in the Engine's archive of the volume, which is its root. The rest is not read: a volume may be
/// large.
async fn header(engine: &Docker, name: &str) -> Result<Vec<u8>, HostError> {
    let options = DownloadFromContainerOptionsBuilder::default().path(HOME).build();
    let mut archive = std::pin::pin!(engine.download_from_container(name, Some(options)));
    let mut header = Vec::new();
    while header.len() < BLOCK {
        let Some(bytes) = archive.try_next().await? else {
            return Err(HostError::Failed(format!("the Engine shows nothing of {HOME} in {name}")));
        };
        header.extend_from_slice(&bytes);
    }
    Ok(header)
}

/// Reads a number of seven octal digits.
fn number(header: &[u8], at: usize) -> u64 {
    let digits = std::str::from_utf8(&header[at..at + 7]).unwrap_or_default().trim_matches([' ', '\0']);
    u64::from_str_radix(digits, 8).unwrap_or_default()
}

/// An archive with one directory, named `/`, because the Engine ignores the attributes of an entry named `.`.
fn archive(mode: u64, modified: u64) -> Vec<u8> {
    let mut archive = vec![0; 3 * BLOCK];
    let mut put = |at: usize, text: &str| archive[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "/");
    put(MODE, &format!("{mode:07o}"));
    put(OWNER, &format!("{UID:07o}"));
    put(GROUP, &format!("{UID:07o}"));
    put(124, &format!("{:011o}", 0));
    put(136, &format!("{modified:011o}"));
    // The checksum is computed with spaces in its own field.
    put(148, "        ");
    put(156, "5");
    put(257, "ustar\x0000");
    let sum: u32 = archive[..BLOCK].iter().copied().map(u32::from).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive
}
