//! Volume quotas: ext4 file systems in sparse files, one per instance, which bound a volume in bytes and in inodes.
//!
//! The Engine's `local` driver mounts a volume when a container with it starts, and unmounts it when that container
//! stops. The device that it is configured to mount is a symbolic link beside the sparse file, which points to a loop
//! device. The link exists only while a container is created or started, and the loop device has autoclear set, so that
//! the kernel removes it after its last use. Therefore only awake instances occupy loop devices, a crashed host leaves
//! nothing to clean up, and a container that another tool starts fails to mount instead of mounting another instance's
//! file system.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_ground::ids::InstanceId;
use tokio::process::Command;
use tokio::sync::OwnedMutexGuard;

use super::host_config::UID;
use super::volume_folder::{LINK, VolumeFolder, failed};
use crate::HostError;

const MIB: u64 = 1024 * 1024;
/// One inode for every 26 KiB: 200 000 for 5 GiB.
const INODES_PER_MIB: u32 = 40;
/// How long the kernel may take to clear a loop device after its container stopped.
const AUTOCLEAR_TIMEOUT: Duration = Duration::from_secs(2);
/// The search path of the programs that make file systems and attach devices. They inherit no other variable.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The name under which these programs open the file that they get as standard input: the open file itself, whatever
/// its folder has become.
const STDIN: &str = "/proc/self/fd/0";

/// The file systems in one folder.
pub(super) struct VolumeFileSystems {
    folder: Arc<VolumeFolder>,
    /// One lock per instance: two loop devices on one file would be mounted as two file systems that corrupt each
    /// other.
    locks: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A sparse file attached to a loop device for the Engine to mount. Dropping it removes the link and detaches the
/// device; a mounted device stays until its last use ends.
pub(super) struct AttachedDevice {
    device: PathBuf,
    folder: Arc<VolumeFolder>,
    link: String,
    lock: Option<OwnedMutexGuard<()>>,
}

/// The opened sparse file of a volume.
struct VolumeFile {
    file: File,
    /// Its name in the folder.
    name: String,
    /// Its path as the kernel knows it.
    path: PathBuf,
}

impl VolumeFileSystems {
    pub(super) fn new(folder: Arc<VolumeFolder>) -> Self {
        Self { folder, locks: Mutex::default() }
    }

    /// Takes the lock on the instance's file system, to create, attach or remove it.
    pub(super) async fn lock(&self, instance: InstanceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(instance).or_default())
        };
        lock.lock_owned().await
    }

    /// Attaches the file of volume `name`, so that the Engine can mount it until the guard is dropped. `None` when the
    /// Engine has it mounted already.
    pub(super) async fn attach(&self, instance: InstanceId, name: &str) -> Result<Option<AttachedDevice>, HostError> {
        let lock = self.lock(instance).await;
        let file = self.file(name)?;
        let link = link_name(name);
        // Under the lock, a link can only be left over from a killed provisioner. Its device may by now hold another
        // instance's file.
        self.folder.remove(&link)?;
        // A container that has just stopped may hold its device for a moment. A device that is still there after the
        // timeout is mounted.
        for _ in 0..AUTOCLEAR_TIMEOUT.as_millis() / 10 {
            if !file.has_autoclear_device().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if file.has_autoclear_device().await {
            return Ok(None);
        }
        match due_care(&file)? {
            FileSystemCare::None => {}
            FileSystemCare::Repair => repair(&file).await?,
            FileSystemCare::Grow => {
                repair(&file).await?;
                run("resize2fs", &[STDIN], &file.file).await?;
            }
        }
        // --nooverlap reuses a device that a killed provisioner left attached, instead of adding a second one.
        let device = run("losetup", &["--find", "--show", "--nooverlap", STDIN], &file.file).await?;
        let device = PathBuf::from(device.trim());
        // Before the guard exists: a device with another file is not ours to detach.
        if !file.is_in(&device).await {
            return Err(HostError::Failed(format!("{} does not hold {}", device.display(), file.path.display())));
        }
        let attached = AttachedDevice { device, folder: Arc::clone(&self.folder), link, lock: Some(lock) };
        self.folder.link(&attached.device, &attached.link)?;
        Ok(Some(attached))
    }

    /// Removes the link and the file of `name`, if they exist.
    pub(super) fn remove(&self, name: &str) -> Result<(), HostError> {
        self.folder.remove(&link_name(name))?;
        self.folder.remove(&file_name(name))?;
        Ok(())
    }

    /// Removes the links of attached devices. Only for the start of the provisioner, before anything is attached.
    pub(super) fn remove_stale_links(&self) -> Result<(), HostError> {
        for name in self.folder.names()?.iter().filter(|name| name.ends_with(LINK)) {
            tracing::warn!("removing {name}, which a killed provisioner left");
            self.folder.remove(name)?;
        }
        Ok(())
    }

    /// Whether volume `name` has a file.
    pub(super) fn has(&self, name: &str) -> Result<bool, HostError> {
        Ok(self.folder.file(&file_name(name))?.is_some())
    }

    /// Makes an empty file system of the full size; sparse, it occupies hardly a block. Atomic: it is renamed to its
    /// final name last, so that no file of that name is ever incomplete.
    pub(super) async fn make(&self, name: &str, mib: u32) -> Result<(), HostError> {
        if self.has(name)? {
            return Ok(());
        }
        let unready = format!("{name}.new");
        self.folder.remove(&unready)?;
        let file = self.folder.create(&unready)?;
        let failed = |error| failed("making", &self.folder.path_of(&unready), &error);
        file.set_len(u64::from(mib) * MIB).map_err(failed)?;
        let inodes = (mib * INODES_PER_MIB).to_string();
        let options = format!("root_owner={UID}:{UID},lazy_itable_init=1,lazy_journal_init=1,nodiscard");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-N", &inodes, "-E", &options, STDIN], &file).await?;
        // The Engine copies the image's files only into an empty volume, and lost+found would make it non-empty.
        run("debugfs", &["-w", "-R", "rmdir lost+found", STDIN], &file).await?;
        // Durability: fsync before the rename, or after a power cut the name could lead to a file without its contents.
        file.sync_all().map_err(failed)?;
        self.folder.rename(&unready, &file_name(name))
    }

    /// Grows the file to `mib` MiB if it is smaller; the file system follows at the next attach.
    pub(super) fn grow(&self, name: &str, mib: u32) -> Result<(), HostError> {
        let (file, bytes) = (self.file(name)?, u64::from(mib) * MIB);
        let length = file.file.metadata().map(|metadata| metadata.len());
        let grown = length.and_then(|length| if length < bytes { file.file.set_len(bytes) } else { Ok(()) });
        grown.map_err(|error| failed("growing", &file.path, &error))
    }

    /// The path of the link that the Engine is configured to mount.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.folder.path_of(&link_name(name))
    }

    /// Opens the file of volume `name`.
    ///
    /// # Errors
    /// When it is missing: without it the volume would have no limit, or be another tenant's.
    fn file(&self, name: &str) -> Result<VolumeFile, HostError> {
        let name = file_name(name);
        let Some(file) = self.folder.file(&name)? else {
            return Err(HostError::Failed(format!(
                "the file system {} is missing: restore that file, or set BERTH_VOLUMES_DIR to the folder that has it",
                self.folder.path_of(&name).display()
            )));
        };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let path = path.map_err(|error| failed("finding", &self.folder.path_of(&name), &error))?;
        Ok(VolumeFile { file, name, path })
    }
}

impl VolumeFile {
    /// Whether a loop device with autoclear holds the file: it is mounted, or the kernel is about to clear it.
    async fn has_autoclear_device(&self) -> bool {
        let Ok(devices) = std::fs::read_dir("/sys/block") else { return false };
        for device in devices.flatten() {
            let autoclear = std::fs::read_to_string(device.path().join("loop/autoclear")).unwrap_or_default();
            if autoclear.trim() == "1" && self.is_in(&Path::new("/dev").join(device.file_name())).await {
                return true;
            }
        }
        false
    }

    /// Whether the loop device `device` holds the file.
    async fn is_in(&self, device: &Path) -> bool {
        let backing = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("loop/backing_file");
        let backing = std::fs::read_to_string(backing).unwrap_or_default();
        let backing = Path::new(backing.trim_end());
        if backing == self.path {
            return true;
        }
        // For a file of another mount namespace, as of a provisioner that ended, or for a file that was moved, the
        // kernel shows another path. losetup compares the inodes.
        if !backing.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.name)) {
            return false;
        }
        let holding = run("losetup", &["--noheadings", "--output", "NAME", "--associated", STDIN], &self.file).await;
        holding.is_ok_and(|devices| devices.lines().any(|line| Path::new(line.trim()) == device))
    }
}

impl Drop for AttachedDevice {
    fn drop(&mut self) {
        let (device, folder) = (self.device.clone(), Arc::clone(&self.folder));
        let (link, lock) = (self.link.clone(), self.lock.take());
        let detach = move || {
            let _lock = lock;
            if let Err(error) = folder.remove(&link) {
                tracing::warn!("{error}");
            }
            // A mounted device gets autoclear by this and is removed after its last use; an unused one is removed at
            // once.
            if let Err(why) = detach_device(&device) {
                tracing::warn!("{} stays attached: {why}", device.display());
            }
        };
        match tokio::runtime::Handle::try_current() {
            // On a blocking thread: losetup takes a few milliseconds, and this may run in a cancelled task, which
            // cannot await.
            Ok(runtime) => drop(runtime.spawn_blocking(detach)),
            Err(_) => detach(),
        }
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.ext4")
}

fn link_name(name: &str) -> String {
    format!("{name}{LINK}")
}

fn detach_device(device: &Path) -> Result<(), String> {
    let mut command = std::process::Command::new("losetup");
    command.arg("-d").arg(device).env_clear().env("PATH", PATH).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Checks and repairs the file system, which a full disk below it may have damaged. Takes time proportional to its
/// size, so it runs only when the superblock requires it.
async fn repair(file: &VolumeFile) -> Result<(), HostError> {
    tracing::warn!("repairing or growing the file system in {}", file.path.display());
    // Exit status 1 of e2fsck: errors found and corrected.
    run_expecting("e2fsck", &["-f", "-p", STDIN], &file.file, &[0, 1]).await.map(|_| ())
}

/// The maintenance that is due before a file system is mounted.
#[derive(Debug, PartialEq, Eq)]
enum FileSystemCare {
    None,
    Repair,
    Grow,
}

fn due_care(file: &VolumeFile) -> Result<FileSystemCare, HostError> {
    let mut superblock = [0; 1024];
    let read = file.file.read_exact_at(&mut superblock, 1024).and_then(|()| file.file.metadata());
    let bytes = read.map_err(|error| failed("reading", &file.path, &error))?.len();
    parse_superblock(&superblock, bytes)
        .ok_or_else(|| HostError::Failed(format!("{} holds no ext4 file system: restore it", file.path.display())))
}

/// Parses an ext4 superblock (kernel.org, "ext4 Data Structures and Algorithms", 4.1); `None` if its magic number is
/// wrong. `bytes` is the length of the file.
fn parse_superblock(superblock: &[u8; 1024], bytes: u64) -> Option<FileSystemCare> {
    let half = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
    if half(0x38) != 0xEF53 {
        return None;
    }
    // s_magic, s_state with its flag for errors, then s_blocks_count (low and high half) and s_log_block_size.
    let with_errors = half(0x3A) & 2 != 0;
    let used = (word(0x04) | word(0x150) << 32) << (10 + word(0x18).min(6));
    Some(if used < bytes {
        FileSystemCare::Grow
    } else if with_errors {
        FileSystemCare::Repair
    } else {
        FileSystemCare::None
    })
}

/// Runs a system program on `file`, which it opens as [`STDIN`].
async fn run(program: &str, arguments: &[&str], file: &File) -> Result<String, HostError> {
    run_expecting(program, arguments, file, &[0]).await
}

/// Like [`run`]; the program is killed if the future is dropped. `successes` are the exit statuses that count as
/// success.
async fn run_expecting(program: &str, arguments: &[&str], file: &File, successes: &[i32]) -> Result<String, HostError> {
    let stdin = file.try_clone().map_err(|error| HostError::Failed(format!("a file for {program}: {error}")))?;
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(stdin)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            HostError::Failed(format!("{program} cannot be run ({error}): install e2fsprogs and util-linux"))
        })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(code) if successes.contains(&code) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        // These programs report a full disk only in their text.
        _ if stderr.contains("No space left") => Err(HostError::DiskFull),
        _ => Err(HostError::Failed(format!("{program} failed ({}): {}", output.status, stderr.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_tells_the_due_care() {
        let superblock = |magic: u16, state: u16, blocks: u32| {
            let mut bytes = [0; 1024];
            bytes[0x38..0x3A].copy_from_slice(&magic.to_le_bytes());
            bytes[0x3A..0x3C].copy_from_slice(&state.to_le_bytes());
            bytes[0x04..0x08].copy_from_slice(&blocks.to_le_bytes());
            // 4 KiB a block.
            bytes[0x18] = 2;
            bytes
        };
        for (sentence, magic, state, blocks, needs) in [
            ("clean and of the file's size", 0xEF53, 1, 256, Some(FileSystemCare::None)),
            ("in use when the host went down: mounting puts that right", 0xEF53, 0, 256, Some(FileSystemCare::None)),
            ("with errors", 0xEF53, 3, 256, Some(FileSystemCare::Repair)),
            ("in a file that has grown", 0xEF53, 1, 128, Some(FileSystemCare::Grow)),
            ("not one", 0, 1, 256, None),
        ] {
            assert_eq!(parse_superblock(&superblock(magic, state, blocks), MIB), needs, "{sentence}");
        }
    }
}
