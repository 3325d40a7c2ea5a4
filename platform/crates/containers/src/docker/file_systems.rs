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
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_ground::ids::InstanceId;
use tokio::process::Command;
use tokio::sync::OwnedMutexGuard;

use super::host_config::UID;
use crate::HostError;

const MIB: u64 = 1024 * 1024;
/// One inode for every 26 KiB: 200 000 for 5 GiB.
const INODES_PER_MIB: u32 = 40;
/// How long the kernel may take to clear a loop device after its container stopped.
const AUTOCLEAR_TIMEOUT: Duration = Duration::from_secs(2);
/// The search path of the programs that make file systems and attach devices. They inherit no other variable.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The file systems in one folder.
pub(super) struct VolumeFileSystems {
    dir: PathBuf,
    /// One lock per instance: two loop devices on one file would be mounted as two file systems that corrupt each
    /// other.
    locks: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A sparse file attached to a loop device for the Engine to mount. Dropping it removes the link and detaches the
/// device; a mounted device stays until its last use ends.
pub(super) struct AttachedDevice {
    device: PathBuf,
    link: PathBuf,
    lock: Option<OwnedMutexGuard<()>>,
}

impl VolumeFileSystems {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, locks: Mutex::default() }
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
    /// volume has no limit, or the Engine has it mounted already.
    pub(super) async fn attach(&self, instance: InstanceId, name: &str) -> Result<Option<AttachedDevice>, HostError> {
        let file = self.file(name);
        if !file.exists() {
            return Ok(None);
        }
        let lock = self.lock(instance).await;
        // The kernel reports canonical paths in /sys, with which `has_autoclear_device` compares.
        let file = file.canonicalize().map_err(|error| failed("finding", &file, &error))?;
        // A container that has just stopped may hold its device for a moment. A device that is still there after the
        // timeout is mounted.
        for _ in 0..AUTOCLEAR_TIMEOUT.as_millis() / 10 {
            if !has_autoclear_device(&file) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if has_autoclear_device(&file) {
            return Ok(None);
        }
        match due_care(&file)? {
            FileSystemCare::None => {}
            FileSystemCare::Repair => self.repair(&file).await?,
            FileSystemCare::Grow => {
                self.repair(&file).await?;
                run("resize2fs", &[&text(&file)]).await?;
            }
        }
        // --nooverlap reuses a device that a killed provisioner left attached, instead of adding a second one.
        let device = run("losetup", &["--find", "--show", "--nooverlap", &text(&file)]).await?;
        let attached = AttachedDevice { device: device.trim().into(), link: self.link(name), lock: Some(lock) };
        remove_file(&attached.link)?;
        std::os::unix::fs::symlink(&attached.device, &attached.link)
            .map_err(|error| failed("linking", &attached.link, &error))?;
        Ok(Some(attached))
    }

    /// Removes the link and the file of `name`, if they exist.
    pub(super) fn remove(&self, name: &str) -> Result<(), HostError> {
        remove_file(&self.link(name))?;
        remove_file(&self.file(name))
    }

    /// Makes an empty file system of the full size; sparse, it occupies hardly a block. Atomic: it is renamed to its
    /// final name last, so that no file of that name is ever incomplete.
    pub(super) async fn make(&self, name: &str, mib: u32) -> Result<(), HostError> {
        if self.file(name).exists() {
            return Ok(());
        }
        let unready = self.dir.join(format!("{name}.new"));
        remove_file(&unready)?;
        let sized = File::create(&unready).and_then(|file| file.set_len(u64::from(mib) * MIB));
        sized.map_err(|error| failed("making", &unready, &error))?;
        let inodes = (mib * INODES_PER_MIB).to_string();
        let options = format!("root_owner={UID}:{UID},lazy_itable_init=1,lazy_journal_init=1,nodiscard");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-N", &inodes, "-E", &options, &text(&unready)]).await?;
        // The Engine copies the image's files only into an empty volume, and lost+found would make it non-empty.
        run("debugfs", &["-w", "-R", "rmdir lost+found", &text(&unready)]).await?;
        // Durability: fsync before the rename, or after a power cut the name could lead to a file without its contents.
        let kept = File::open(&unready).and_then(|file| file.sync_all());
        kept.and_then(|()| std::fs::rename(&unready, self.file(name)))
            .map_err(|error| failed("making", &unready, &error))
    }

    /// Grows the file to `mib` MiB if it is smaller; the file system follows at the next attach.
    pub(super) fn grow(&self, name: &str, mib: u32) -> Result<(), HostError> {
        let (path, bytes) = (self.file(name), u64::from(mib) * MIB);
        match File::options().write(true).open(&path) {
            Ok(file) => {
                let length = file.metadata().map(|metadata| metadata.len());
                let grown = length.and_then(|length| if length < bytes { file.set_len(bytes) } else { Ok(()) });
                grown.map_err(|error| failed("growing", &path, &error))
            }
            // A volume without a limit has no file.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("opening", &path, &error)),
        }
    }

    /// Checks and repairs the file system, which a full disk below it may have damaged. Takes time proportional to its
    /// size, so it runs only when the superblock requires it.
    async fn repair(&self, file: &Path) -> Result<(), HostError> {
        tracing::warn!("repairing or growing the file system in {}", file.display());
        // Exit status 1 of e2fsck: errors found and corrected.
        run_expecting("e2fsck", &["-f", "-p", &text(file)], &[0, 1]).await.map(|_| ())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.ext4"))
    }

    /// The path of the link that the Engine is configured to mount.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.dev"))
    }
}

impl Drop for AttachedDevice {
    fn drop(&mut self) {
        let (device, link, lock) = (self.device.clone(), self.link.clone(), self.lock.take());
        let detach = move || {
            let _lock = lock;
            if let Err(error) = remove_file(&link) {
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

fn detach_device(device: &Path) -> Result<(), String> {
    let mut command = std::process::Command::new("losetup");
    command.arg("-d").arg(device).env_clear().env("PATH", PATH).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Whether a loop device with autoclear holds `file`: it is mounted, or the kernel is about to clear it.
fn has_autoclear_device(file: &Path) -> bool {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return false };
    devices.flatten().map(|device| device.path().join("loop")).any(|device| {
        let read = |name: &str| std::fs::read_to_string(device.join(name)).unwrap_or_default();
        Path::new(read("backing_file").trim_end()) == file && read("autoclear").trim() == "1"
    })
}

/// The maintenance that is due before a file system is mounted.
#[derive(Debug, PartialEq, Eq)]
enum FileSystemCare {
    None,
    Repair,
    Grow,
}

fn due_care(file: &Path) -> Result<FileSystemCare, HostError> {
    let mut superblock = [0; 1024];
    let read = File::open(file).and_then(|mut open| {
        open.seek(SeekFrom::Start(1024))?;
        open.read_exact(&mut superblock)?;
        open.metadata()
    });
    let bytes = read.map_err(|error| failed("reading", file, &error))?.len();
    parse_superblock(&superblock, bytes)
        .ok_or_else(|| HostError::Failed(format!("{} holds no ext4 file system: restore it", file.display())))
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

async fn run(program: &str, arguments: &[&str]) -> Result<String, HostError> {
    run_expecting(program, arguments, &[0]).await
}

/// Runs a system program, which is killed if the future is dropped. `successes` are the exit statuses that count as
/// success.
async fn run_expecting(program: &str, arguments: &[&str], successes: &[i32]) -> Result<String, HostError> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
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

fn remove_file(path: &Path) -> Result<(), HostError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("removing", path, &error)),
        _ => Ok(()),
    }
}

/// The error of a file operation: a full disk, or `doing` and the path with the system's text.
pub(super) fn failed(doing: &str, path: &Path, error: &std::io::Error) -> HostError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => HostError::DiskFull,
        _ => HostError::Failed(format!("{doing} {}: {error}", path.display())),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
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
