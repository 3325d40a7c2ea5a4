//! Volumes: made with the limit that holds for new ones, used while they are not buried, destroyed long after they were.

use std::collections::HashMap;
use std::path::PathBuf;

use berth_ground::clock::Clock;
use berth_ground::ids::InstanceId;
use bollard::Docker;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::RemoveVolumeOptionsBuilder;
use tokio::sync::OnceCell;

use super::file_systems::{Attached, FileSystems};
use super::tombstones::Tombstones;
use super::{disks, errors, labels};
use crate::config::{ContainerConfig, DiskLimit};
use crate::{DiskUse, HostError, HostReport};

/// The volumes of one installation. `name` is the volume's on the Engine.
pub(super) struct Volumes {
    limit: DiskLimit,
    installation: String,
    data_dir: PathBuf,
    dir: PathBuf,
    file_systems: FileSystems,
    pub(super) tombstones: Tombstones,
    engine_root: OnceCell<PathBuf>,
}

impl Volumes {
    pub(super) fn new(config: &ContainerConfig, clock: Clock) -> Self {
        let dir = config.volumes_dir();
        Self {
            limit: config.disk_limit,
            installation: config.network.clone(),
            data_dir: config.data_dir.clone(),
            file_systems: FileSystems::new(dir.clone()),
            tombstones: Tombstones::new(config, clock),
            dir,
            engine_root: OnceCell::new(),
        }
    }

    /// Makes the volume if there is none. One that is there is left as it is, except that one with a limit grows to `mib`.
    pub(super) async fn ensure(
        &self,
        engine: &Docker,
        (instance, name): (InstanceId, &str),
        mib: u32,
    ) -> Result<(), HostError> {
        self.tombstones.refuse_if_buried(name)?;
        self.tombstones.open_dir()?;
        let _alone = self.file_systems.alone(instance).await;
        match engine.inspect_volume(name).await {
            Ok(_) => return self.file_systems.grow(name, mib),
            Err(error) if errors::is_absent(&error) => {}
            Err(error) => return Err(error.into()),
        }
        disks::refuse_from(disks::MAKE_BELOW, &self.disks(engine).await?)?;
        let options = match self.limit {
            DiskLimit::None => HashMap::new(),
            DiskLimit::Image => {
                self.file_systems.make(name, mib).await?;
                let link = self.file_systems.link(name).display().to_string();
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

    /// Refuses when nothing may be made or started on the volume: it is buried, or the disk has hardly any room.
    pub(super) async fn refuse_unless_usable(&self, engine: &Docker, name: &str) -> Result<(), HostError> {
        self.tombstones.refuse_if_buried(name)?;
        disks::refuse_from(disks::WAKE_BELOW, &self.disks(engine).await?)
    }

    /// Lets the Engine mount the volume while the answer is held: see [`FileSystems::attach`].
    pub(super) async fn attach(&self, instance: InstanceId, name: &str) -> Result<Option<Attached>, HostError> {
        self.file_systems.attach(instance, name).await
    }

    /// Destroys the volume and then its tombstone, so that one that was destroyed by half is not kept by half.
    pub(super) async fn destroy(&self, engine: &Docker, instance: InstanceId, name: &str) -> Result<(), HostError> {
        let _alone = self.file_systems.alone(instance).await;
        let removed = engine.remove_volume(name, Some(RemoveVolumeOptionsBuilder::default().build())).await;
        match removed {
            Err(error) if errors::is_absent(&error) => {}
            other => other?,
        }
        self.file_systems.remove(name)?;
        tracing::warn!(instance.id = %instance, "a volume is destroyed: it was buried long enough ago");
        self.tombstones.unbury(name)
    }

    /// Adds what the Engine cannot tell.
    pub(super) async fn complete(&self, engine: &Docker, report: HostReport) -> Result<HostReport, HostError> {
        Ok(HostReport { disks: self.disks(engine).await?, buried: self.tombstones.count(), ..report })
    }

    async fn disks(&self, engine: &Docker) -> Result<Vec<DiskUse>, HostError> {
        let ask = || async { Ok::<_, HostError>(engine.info().await?.docker_root_dir.unwrap_or_default().into()) };
        let engine_root = self.engine_root.get_or_try_init(ask).await?;
        Ok(disks::used(&[("Docker's data", engine_root), ("Berth's data", &self.data_dir), ("volumes", &self.dir)]))
    }
}
