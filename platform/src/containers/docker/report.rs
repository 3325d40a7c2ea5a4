//! What the operator should know of this host.

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
        disk_limit: config.disk_limit,
        // These two are not the Engine's to tell.
        disks: Vec::new(),
        buried: 0,
        missing_images,
    })
}
