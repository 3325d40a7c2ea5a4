//! What the operator should know of this host.

use std::path::Path;

use bollard::Docker;
use bollard::models::SystemInfoCgroupVersionEnum;

use super::{errors, reclaim};
use crate::config::ContainerConfig;
use crate::containers::{HostError, HostReport};

pub(super) async fn report(engine: &Docker, config: &ContainerConfig) -> Result<HostReport, HostError> {
    let info = engine.info().await?;
    let components = engine.version().await?.components.unwrap_or_default();
    let mut missing_images = Vec::new();
    for image in &config.images {
        match engine.inspect_image(image).await {
            Ok(_) => {}
            Err(error) if errors::is_absent(&error) => missing_images.push(image.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(HostReport {
        engine_version: info.server_version.unwrap_or_default(),
        cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
        swap_mib: reclaim::swap_mib().await,
        runc_version: components.into_iter().find(|c| c.name == "runc").map(|c| c.version).unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        disk_free_percent: disk_free_percent(info.docker_root_dir.as_deref(), &config.socket),
        missing_images,
    })
}

/// Of the Engine's disk when its directory is visible here, and of our own data directory otherwise: a provisioner in a
/// container sees only the latter, and on most machines the two share a disk.
fn disk_free_percent(engine_root: Option<&str>, socket: &Path) -> u8 {
    let ours = socket.parent().unwrap_or(Path::new("/"));
    let seen = engine_root.and_then(|root| rustix::fs::statvfs(root).ok()).or_else(|| rustix::fs::statvfs(ours).ok());
    let Some(disk) = seen.filter(|disk| disk.f_blocks > 0) else { return 0 };
    u8::try_from(disk.f_bavail * 100 / disk.f_blocks).unwrap_or(100)
}
