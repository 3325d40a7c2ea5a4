//! Volumes: created with the configured quota, refused while they have a tombstone, destroyed once the tombstone is old
//! enough.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_ground::clock::Clock;
use berth_ground::ids::InstanceId;
use bollard::Docker;
use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::RemoveVolumeOptionsBuilder;
use tokio::sync::OnceCell;

use super::file_systems::{AttachedDevice, VolumeFileSystems};
use super::tombstones::Tombstones;
use super::volume_folder::VolumeFolder;
use super::{disks, errors, labels};
use crate::config::{ContainerConfig, DiskLimit};
use crate::{DiskUsage, HostError, HostReport};

/// What the Engine mounts for a volume.
enum VolumeBacking {
    /// A folder of the Engine's own, without a limit.
    Plain,
    /// The device behind the volume's link in our folder.
    FileSystem,
    /// A device anywhere else, as after a change of BERTH_VOLUMES_DIR.
    Elsewhere,
}

impl VolumeBacking {
    /// From the options with which the Engine's volume was created.
    fn of(volume: &Volume, link: &str) -> Self {
        match volume.options.get("device") {
            None => Self::Plain,
            Some(device) if device == link => Self::FileSystem,
            Some(_) => Self::Elsewhere,
        }
    }
}

/// The volumes of one installation. `name` is a volume's name on the Engine.
pub(super) struct Volumes {
    limit: DiskLimit,
    installation: String,
    data_dir: PathBuf,
    dir: PathBuf,
    folder: Arc<VolumeFolder>,
    file_systems: VolumeFileSystems,
    pub(super) tombstones: Tombstones,
    engine_root: OnceCell<PathBuf>,
}

impl Volumes {
    pub(super) fn new(config: &ContainerConfig, clock: Clock) -> Self {
        let folder = Arc::new(VolumeFolder::new(config));
        Self {
            limit: config.disk_limit,
            installation: config.network.clone(),
            data_dir: config.data_dir.clone(),
            file_systems: VolumeFileSystems::new(Arc::clone(&folder)),
            tombstones: Tombstones::new(config, Arc::clone(&folder), clock),
            dir: config.volumes_dir.clone(),
            folder,
            engine_root: OnceCell::new(),
        }
    }

    /// Opens the folder of the volumes' files, and removes the device links that a killed provisioner left in it.
    pub(super) fn open(&self) -> Result<(), HostError> {
        self.folder.open()?;
        self.file_systems.remove_stale_links()
    }

    /// Creates the volume if it does not exist. An existing one keeps its contents; if it has a limit, the limit grows
    /// to `mib`.
    pub(super) async fn ensure(
        &self,
        engine: &Docker,
        instance: InstanceId,
        name: &str,
        mib: u32,
    ) -> Result<(), HostError> {
        self.tombstones.refuse_if_buried(name)?;
        self.folder.open()?;
        // Serializes with `destroy` and with another `ensure`: two concurrent calls would format the same file.
        let _lock = self.file_systems.lock(instance).await;
        let limit = match self.backing(engine, name).await? {
            Some(VolumeBacking::Plain) => return Ok(()),
            Some(VolumeBacking::FileSystem) => return self.file_systems.grow(name, mib),
            // First the file, or an empty file system would take the place of one that was left elsewhere. The Engine's
            // volume is only the reference to the link, and is refused while a container has it.
            Some(VolumeBacking::Elsewhere) => {
                self.file_systems.grow(name, mib)?;
                engine.remove_volume(name, Some(RemoveVolumeOptionsBuilder::default().build())).await?;
                DiskLimit::Image
            }
            // Its reference on the Engine was removed, by hand or in the step above before a crash.
            None if self.file_systems.has(name)? => DiskLimit::Image,
            None => {
                // Only new volumes are refused: growing an existing one takes no space until its instance writes.
                disks::refuse_from(disks::CREATE_BELOW, &self.disks(engine).await?)?;
                self.limit
            }
        };
        let options = match limit {
            DiskLimit::None => HashMap::new(),
            DiskLimit::Image => {
                self.file_systems.make(name, mib).await?;
                let link = self.file_systems.link(name).display().to_string();
                // With discard (TRIM), the loop device punches holes: deleted files free space on the host's disk.
                [("type", "ext4"), ("device", &link), ("o", "nosuid,nodev,discard")]
                    .map(|(option, value)| (option.to_owned(), value.to_owned()))
                    .into()
            }
        };
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels::of_volume(&self.installation, instance)),
            driver_opts: Some(options),
            ..Default::default()
        };
        engine.create_volume(request).await?;
        Ok(())
    }

    /// Refuses to create or start on the volume if it has a tombstone or the disk is nearly full.
    pub(super) async fn refuse_unless_usable(&self, engine: &Docker, name: &str) -> Result<(), HostError> {
        self.tombstones.refuse_if_buried(name)?;
        disks::refuse_from(disks::START_BELOW, &self.disks(engine).await?)
    }

    /// Lets the Engine mount the volume until the result is dropped: see [`VolumeFileSystems::attach`]. `None` also for
    /// a volume without a limit, which the Engine mounts by itself.
    ///
    /// # Errors
    /// When the Engine would mount anything but the volume's own file.
    pub(super) async fn attach(
        &self,
        engine: &Docker,
        instance: InstanceId,
        name: &str,
    ) -> Result<Option<AttachedDevice>, HostError> {
        match self.backing(engine, name).await? {
            Some(VolumeBacking::Plain) => Ok(None),
            Some(VolumeBacking::FileSystem) => self.file_systems.attach(instance, name).await,
            Some(VolumeBacking::Elsewhere) => Err(HostError::Refused(format!(
                "the volume {name} mounts a device that is not in {}; its container has to be made anew",
                self.dir.display()
            ))),
            None => {
                Err(HostError::Failed(format!("the Engine has no volume {name}; remove the container of that name")))
            }
        }
    }

    /// What the Engine mounts for the volume; `None` if there is no such volume.
    async fn backing(&self, engine: &Docker, name: &str) -> Result<Option<VolumeBacking>, HostError> {
        match engine.inspect_volume(name).await {
            Ok(volume) => Ok(Some(VolumeBacking::of(&volume, &self.file_systems.link(name).display().to_string()))),
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Destroys the volume, and its tombstone last: after a crash in between, the volume still has its tombstone, and
    /// the next call completes the destruction.
    pub(super) async fn destroy(&self, engine: &Docker, instance: InstanceId, name: &str) -> Result<(), HostError> {
        // No concurrent call may attach the file while it is removed.
        let _lock = self.file_systems.lock(instance).await;
        let removed = engine.remove_volume(name, Some(RemoveVolumeOptionsBuilder::default().build())).await;
        match removed {
            // Idempotent: an earlier attempt may have come this far.
            Err(error) if errors::is_absent(&error) => {}
            other => other?,
        }
        self.file_systems.remove(name)?;
        tracing::warn!(instance.id = %instance, "a volume is destroyed: its tombstone was old enough");
        self.tombstones.unbury(name)
    }

    /// Adds disk usage and tombstones, which the Engine does not know.
    pub(super) async fn complete(&self, engine: &Docker, report: HostReport) -> Result<HostReport, HostError> {
        Ok(HostReport { disks: self.disks(engine).await?, buried: self.tombstones.count(), ..report })
    }

    async fn disks(&self, engine: &Docker) -> Result<Vec<DiskUsage>, HostError> {
        let ask = || async { Ok::<_, HostError>(engine.info().await?.docker_root_dir.unwrap_or_default().into()) };
        let engine_root = self.engine_root.get_or_try_init(ask).await?;
        Ok(disks::used(&[("Docker's data", engine_root), ("Berth's data", &self.data_dir), ("volumes", &self.dir)]))
    }
}
