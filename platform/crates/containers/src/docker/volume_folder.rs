//! The folder of the volumes' files, opened once: every file in it is addressed relative to its descriptor (`openat`),
//! so that another folder under the same name is never used.
//!
//! The platform faces the network and may be compromised. A folder that its user can rename could be replaced by one
//! with other tenants' devices, or with tombstones that are older than they claim; so the folder, and each folder above
//! it, must be out of that user's reach.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::HostError;
use crate::config::ContainerConfig;

/// The ending of the links that the Engine is configured to mount.
pub(super) const LINK: &str = ".dev";
/// A write by another user than the owner: the mode bits of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The mode bit by which only an entry's owner may rename it.
const STICKY: u32 = 0o1000;

/// The folder of the volumes' files and tombstones.
pub(super) struct VolumeFolder {
    path: PathBuf,
    /// The folder of the sockets, which belongs to the platform's user.
    socket_folder: PathBuf,
    opened: OnceLock<File>,
}

impl VolumeFolder {
    pub(super) fn new(config: &ContainerConfig) -> Self {
        let socket_folder = config.socket.parent().unwrap_or(Path::new("/")).to_owned();
        Self { path: config.volumes_dir.clone(), socket_folder, opened: OnceLock::new() }
    }

    /// The descriptor of the folder, which is created if it is missing.
    ///
    /// # Errors
    /// When another user could have put the folder there or can write to it, or when the path leads to another folder
    /// than the one that was opened first: the Engine follows the path.
    pub(super) fn open(&self) -> Result<&File, HostError> {
        let opened = match self.opened.get() {
            Some(opened) => opened,
            None => {
                let opened = self.open_first()?;
                // Race: of two concurrent first calls, one drops its descriptor unused.
                self.opened.get_or_init(|| opened)
            }
        };
        let (there, ours) = (std::fs::symlink_metadata(&self.path), opened.metadata());
        match (there, ours) {
            (Ok(there), Ok(ours)) if is_same(&there, &ours) => Ok(opened),
            _ => Err(HostError::Refused(format!(
                "{} is no longer the folder with which the provisioner started; find out who changed it, and restart \
                 the provisioner",
                self.path.display()
            ))),
        }
    }

    fn open_first(&self) -> Result<File, HostError> {
        let path = &self.path;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| failed("making", path, &error))?;
        // Does not follow a link: one to a folder of ours would pass the checks below.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(path.as_path(), flags, Mode::empty()) {
            Ok(opened) => File::from(opened),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => return Err(self.not_ours()),
            Err(error) => return Err(failed("opening", path, &error.into())),
        };
        let there = opened.metadata().map_err(|error| failed("looking at", path, &error))?;
        let us = rustix::process::geteuid().as_raw();
        if there.uid() != us || there.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(self.not_ours());
        }
        self.refuse_if_replaceable(us)?;
        Ok(opened)
    }

    fn not_ours(&self) -> HostError {
        HostError::Refused(format!(
            "{} is not a folder that only the provisioner's user may write; see who changed it",
            self.path.display()
        ))
    }

    /// Refuses a folder that the platform's user could replace by renaming it or a folder above.
    fn refuse_if_replaceable(&self, us: u32) -> Result<(), HostError> {
        // Without sockets there is no platform yet. The provisioner then creates their folder, and the platform has the
        // same user.
        let Ok(platform) = std::fs::metadata(&self.socket_folder) else { return Ok(()) };
        let absolute = self.path.canonicalize().map_err(|error| failed("finding", &self.path, &error))?;
        for folder in absolute.ancestors().skip(1) {
            let above = std::fs::metadata(folder).map_err(|error| failed("looking at", folder, &error))?;
            if may_rename_in(&above, &platform, us) {
                return Err(HostError::Refused(format!(
                    "the platform's user may rename {}, because {} belongs to that user; set BERTH_VOLUMES_DIR to a \
                     folder below folders of root alone, such as /var/lib/berth-volumes, and move what is in the old \
                     one there",
                    absolute.display(),
                    folder.display()
                )));
            }
        }
        Ok(())
    }

    /// The path of `name`, for the Engine, which follows it by itself.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the file `name`; `None` if there is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, HostError> {
        self.open_file(name, OFlags::RDWR)
    }

    /// Creates the empty file `name`, or empties the one that is there.
    pub(super) fn create(&self, name: &str) -> Result<File, HostError> {
        let created = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        created.ok_or_else(|| HostError::Failed(format!("{} vanished while it was made", self.path_of(name).display())))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, HostError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.open()?, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("opening", &self.path_of(name), &error.into())),
        }
    }

    /// Reads the text of the file `name`; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, HostError> {
        let Some(mut file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut text = String::new();
        match file.read_to_string(&mut text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(failed("reading", &self.path_of(name), &error)),
        }
    }

    /// Writes the file `name`. Atomic: it is written under another name, synced and renamed, so that no file of that
    /// name is ever incomplete.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), HostError> {
        let unready = format!("{name}.new");
        let mut file = self.create(&unready)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| failed("writing", &self.path_of(name), &error))?;
        self.rename(&unready, name)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), HostError> {
        let dir = self.open()?;
        rustix::fs::renameat(dir, from, dir, to).map_err(|error| failed("making", &self.path_of(to), &error.into()))
    }

    /// Makes the link `name` to `target`.
    pub(super) fn link(&self, target: &Path, name: &str) -> Result<(), HostError> {
        rustix::fs::symlinkat(target, self.open()?, name)
            .map_err(|error| failed("linking", &self.path_of(name), &error.into()))
    }

    /// Removes `name`, itself rather than the target of a link; whether it was there.
    pub(super) fn remove(&self, name: &str) -> Result<bool, HostError> {
        match rustix::fs::unlinkat(self.open()?, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(failed("removing", &self.path_of(name), &error.into())),
        }
    }

    /// The names of all entries.
    pub(super) fn names(&self) -> Result<Vec<String>, HostError> {
        let failed = |error: rustix::io::Errno| failed("listing", &self.path, &error.into());
        let entries = rustix::fs::Dir::read_from(self.open()?.as_fd()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether the platform's user, to whom the folder `platform` belongs, may rename an entry of `folder` that is ours.
fn may_rename_in(folder: &Metadata, platform: &Metadata, us: u32) -> bool {
    // Root may do everything, and a platform of our own user gains nothing by renaming.
    if platform.uid() == 0 || platform.uid() == us {
        return false;
    }
    let is_writable = folder.mode() & 0o002 != 0 || folder.mode() & 0o020 != 0 && folder.gid() == platform.gid();
    folder.uid() == platform.uid() || is_writable && folder.mode() & STICKY == 0
}

/// The error of a file operation: a full disk, or `doing` and the path with the system's text.
pub(super) fn failed(doing: &str, path: &Path, error: &std::io::Error) -> HostError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => HostError::DiskFull,
        _ => HostError::Failed(format!("{doing} {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A user other than the one who runs the tests, who must be root to give folders away.
    const PLATFORM: u32 = 65534;

    fn folder(path: &Path, socket_folder: &Path) -> VolumeFolder {
        VolumeFolder { path: path.to_owned(), socket_folder: socket_folder.to_owned(), opened: OnceLock::new() }
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, HostError>) -> String {
        match result {
            Err(HostError::Refused(sentence)) => sentence,
            other => panic!("{other:?} is no refusal"),
        }
    }

    #[test]
    fn a_folder_that_takes_the_place_of_the_opened_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("volumes"), dir.path().join("other"));
        let volumes = folder(&path, &dir.path().join("run"));
        volumes.write("a.buried", "1").unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("a.buried"), "0").unwrap();

        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        for replace in [
            |from: &Path, to: &Path| symlink(from, to).unwrap(),
            |from: &Path, to: &Path| {
                std::fs::rename(from, to).unwrap();
            },
        ] {
            replace(&other, &path);
            assert!(refusal(volumes.read("a.buried")).contains("no longer the folder"));
            assert!(refusal(volumes.link(Path::new("/dev/null"), "a.dev")).contains("no longer the folder"));
            // The last replacement stays.
            if path.is_symlink() {
                std::fs::remove_file(&path).unwrap();
            }
        }
        std::fs::rename(&path, &other).unwrap();
        std::fs::rename(dir.path().join("aside"), &path).unwrap();
        assert_eq!(volumes.read("a.buried").unwrap().as_deref(), Some("1"), "the opened one is back");
    }

    #[test]
    fn a_link_in_the_place_of_a_file_or_of_the_folder_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, outside) = (dir.path().join("volumes"), dir.path().join("outside"));
        std::fs::write(&outside, "another tenant's").unwrap();
        let volumes = folder(&path, &dir.path().join("run"));
        volumes.link(&outside, "a.ext4").unwrap();
        assert!(volumes.file("a.ext4").is_err());
        assert!(volumes.read("a.ext4").is_err());
        assert!(volumes.create("a.ext4").is_err());
        assert!(volumes.remove("a.ext4").unwrap(), "the link itself goes");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "another tenant's");

        symlink(&path, dir.path().join("link")).unwrap();
        let linked = folder(&dir.path().join("link"), &dir.path().join("run"));
        assert!(refusal(linked.names()).contains("only the provisioner's user may write"));
    }

    #[test]
    fn a_folder_that_another_user_owns_or_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volumes");
        std::fs::create_dir(&path).unwrap();
        for mode in [0o720, 0o702] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(refusal(folder(&path, &dir.path().join("run")).names()).contains("see who changed it"), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        folder(&path, &dir.path().join("run")).names().unwrap();
        chown(&path, Some(PLATFORM), None).unwrap();
        assert!(refusal(folder(&path, &dir.path().join("run")).names()).contains("see who changed it"));
    }

    #[test]
    fn a_folder_below_one_of_the_platforms_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (run, data) = (dir.path().join("run"), dir.path().join("data"));
        let path = data.join("below/volumes");
        std::fs::create_dir(&run).unwrap();
        std::fs::create_dir_all(&path).unwrap();
        chown(&run, Some(PLATFORM), Some(PLATFORM)).unwrap();
        let names = || folder(&path, &run).names();
        for (uid, gid, mode, may_be) in [
            (0, 0, 0o755, true),
            (PLATFORM, 0, 0o755, false),
            (PLATFORM, 0, 0o1777, false),
            (0, PLATFORM, 0o771, false),
            (0, PLATFORM, 0o751, true),
            (0, 0, 0o777, false),
            // As /tmp: only an entry's owner may rename it.
            (0, 0, 0o1777, true),
        ] {
            chown(&data, Some(uid), Some(gid)).unwrap();
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
            match names() {
                Ok(_) => assert!(may_be, "{uid} {gid} {mode:o}"),
                refused => assert!(!may_be && refusal(refused).contains("BERTH_VOLUMES_DIR"), "{uid} {gid} {mode:o}"),
            }
        }
    }
}
