//! File systems in sparse files, one an instance: what bounds a volume in bytes and in files.
//!
//! The Engine's `local` driver mounts a volume when a container with it starts and unmounts it when that stops. What it
//! mounts here is a link beside the file that names a loop device. The link is there only while a container is made or
//! started, and after that the device goes with its last use. So a device is taken only while its instance is awake, a host
//! that went down leaves nothing to clear, and a container that somebody else starts finds no file system instead of another's.

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
/// One for every 26 KiB: 200 000 for 5 GiB.
const INODES_PER_MIB: u32 = 40;
/// How long a device may take to go after the container that used it.
const GOING: Duration = Duration::from_secs(2);
/// Where the programs are that make file systems and attach devices; nothing of our own environment reaches them.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The file systems below one folder.
pub(super) struct FileSystems {
    dir: PathBuf,
    /// Two devices on one file would be two file systems that do not know of each other.
    turns: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A file that is attached for the Engine to mount. When this is dropped the link goes, and the device with its last use.
pub(super) struct Attached {
    device: PathBuf,
    link: PathBuf,
    turn: Option<OwnedMutexGuard<()>>,
}

impl FileSystems {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, turns: Mutex::default() }
    }

    /// Waits until nobody else makes, attaches or removes the instance's.
    pub(super) async fn alone(&self, instance: InstanceId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(instance).or_default())
        };
        turn.lock_owned().await
    }

    /// Attaches the file of volume `name`, so that the Engine can mount it while the answer is held. `None`: it is a plain
    /// volume, or the Engine has it mounted already.
    pub(super) async fn attach(&self, instance: InstanceId, name: &str) -> Result<Option<Attached>, HostError> {
        let file = self.file(name);
        if !file.exists() {
            return Ok(None);
        }
        let turn = self.alone(instance).await;
        let file = file.canonicalize().map_err(|error| failed("finding", &file, &error))?;
        for _ in 0..GOING.as_millis() / 10 {
            if !goes_with_its_last_use(&file) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if goes_with_its_last_use(&file) {
            return Ok(None);
        }
        match care_for(&file)? {
            Care::None => {}
            Care::Repair => self.repair(&file).await?,
            Care::Grow => {
                self.repair(&file).await?;
                run("resize2fs", &[&text(&file)]).await?;
            }
        }
        // One that we left behind when we were killed is taken again.
        let device = run("losetup", &["--find", "--show", "--nooverlap", &text(&file)]).await?;
        let attached = Attached { device: device.trim().into(), link: self.link(name), turn: Some(turn) };
        remove_file(&attached.link)?;
        std::os::unix::fs::symlink(&attached.device, &attached.link)
            .map_err(|error| failed("linking", &attached.link, &error))?;
        Ok(Some(attached))
    }

    /// Removes what is there of `name`.
    pub(super) fn remove(&self, name: &str) -> Result<(), HostError> {
        remove_file(&self.link(name))?;
        remove_file(&self.file(name))
    }

    /// An empty file system of its whole size, of which hardly a block is written yet. It gets its name when it is whole.
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
        // The Engine fills an empty volume with what the image has there; with this folder in it, it is not empty.
        run("debugfs", &["-w", "-R", "rmdir lost+found", &text(&unready)]).await?;
        let kept = File::open(&unready).and_then(|file| file.sync_all());
        kept.and_then(|()| std::fs::rename(&unready, self.file(name)))
            .map_err(|error| failed("making", &unready, &error))
    }

    /// Makes the file `mib` large if it is smaller; its file system follows at the next start.
    pub(super) fn grow(&self, name: &str, mib: u32) -> Result<(), HostError> {
        let (path, bytes) = (self.file(name), u64::from(mib) * MIB);
        match File::options().write(true).open(&path) {
            Ok(file) => {
                let length = file.metadata().map(|metadata| metadata.len());
                let grown = length.and_then(|length| if length < bytes { file.set_len(bytes) } else { Ok(()) });
                grown.map_err(|error| failed("growing", &path, &error))
            }
            // A plain volume.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("opening", &path, &error)),
        }
    }

    /// Puts right what a full disk below broke. It takes as long as the file system is big, so only one that needs it.
    async fn repair(&self, file: &Path) -> Result<(), HostError> {
        tracing::warn!("repairing or growing the file system in {}", file.display());
        // 1: it was broken and is whole now.
        run_to("e2fsck", &["-f", "-p", &text(file)], &[0, 1]).await.map(|_| ())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.ext4"))
    }

    /// What the Engine is told to mount.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.dev"))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let (device, link, turn) = (self.device.clone(), self.link.clone(), self.turn.take());
        let detach = move || {
            let _turn = turn;
            if let Err(error) = remove_file(&link) {
                tracing::warn!("{error}");
            }
            // In use it goes later, with the last use; unused, at once.
            if let Err(why) = give_back(&device) {
                tracing::warn!("{} stays attached: {why}", device.display());
            }
        };
        match tokio::runtime::Handle::try_current() {
            // Blocks for the few milliseconds that a child needs; also when whoever held this was given up.
            Ok(runtime) => drop(runtime.spawn_blocking(detach)),
            Err(_) => detach(),
        }
    }
}

fn give_back(device: &Path) -> Result<(), String> {
    let mut command = std::process::Command::new("losetup");
    command.arg("-d").arg(device).env_clear().env("PATH", PATH).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Whether a loop device holds `file` that goes with its last use: it is mounted, or about to go.
fn goes_with_its_last_use(file: &Path) -> bool {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return false };
    devices.flatten().map(|device| device.path().join("loop")).any(|device| {
        let read = |name: &str| std::fs::read_to_string(device.join(name)).unwrap_or_default();
        Path::new(read("backing_file").trim_end()) == file && read("autoclear").trim() == "1"
    })
}

/// What a file system needs before it is mounted.
#[derive(Debug, PartialEq, Eq)]
enum Care {
    None,
    Repair,
    Grow,
}

fn care_for(file: &Path) -> Result<Care, HostError> {
    let mut superblock = [0; 1024];
    let read = File::open(file).and_then(|mut open| {
        open.seek(SeekFrom::Start(1024))?;
        open.read_exact(&mut superblock)?;
        open.metadata()
    });
    let bytes = read.map_err(|error| failed("reading", file, &error))?.len();
    care(&superblock, bytes)
        .ok_or_else(|| HostError::Failed(format!("{} holds no ext4 file system: restore it", file.display())))
}

/// Reads a superblock (kernel.org, "ext4 Data Structures and Algorithms", 4.1); `None` when it is none.
fn care(superblock: &[u8; 1024], bytes: u64) -> Option<Care> {
    let half = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
    if half(0x38) != 0xEF53 {
        return None;
    }
    let with_errors = half(0x3A) & 2 != 0;
    let used = (word(0x04) | word(0x150) << 32) << (10 + word(0x18).min(6));
    Some(if used < bytes {
        Care::Grow
    } else if with_errors {
        Care::Repair
    } else {
        Care::None
    })
}

async fn run(program: &str, arguments: &[&str]) -> Result<String, HostError> {
    run_to(program, arguments, &[0]).await
}

/// Runs one of the system's own programs; it is killed when nobody waits for it any more.
async fn run_to(program: &str, arguments: &[&str], well: &[i32]) -> Result<String, HostError> {
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
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(code) if well.contains(&code) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ if said.contains("No space left") => Err(HostError::DiskFull),
        _ => Err(HostError::Failed(format!("{program} failed ({}): {}", output.status, said.trim()))),
    }
}

fn remove_file(path: &Path) -> Result<(), HostError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("removing", path, &error)),
        _ => Ok(()),
    }
}

/// A file that could not be handled, as what it means.
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
    fn a_superblock_says_what_its_file_system_needs() {
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
            ("clean and of the file's size", 0xEF53, 1, 256, Some(Care::None)),
            ("in use when the host went down: mounting puts that right", 0xEF53, 0, 256, Some(Care::None)),
            ("with errors", 0xEF53, 3, 256, Some(Care::Repair)),
            ("in a file that has grown", 0xEF53, 1, 128, Some(Care::Grow)),
            ("not one", 0, 1, 256, None),
        ] {
            assert_eq!(care(&superblock(magic, state, blocks), MIB), needs, "{sentence}");
        }
    }
}
