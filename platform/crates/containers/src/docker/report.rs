//! The host report: gathers the facts about this host that `berth doctor` shows.

use berth_ground::calendar::NaiveDate;
use berth_ground::clock::Timestamp;
use bollard::Docker;
use bollard::models::SystemInfoCgroupVersionEnum;

use super::network_isolation::NetworkIsolation;
use super::{drift, errors, reclaim};
use crate::config::ContainerConfig;
use crate::{HostError, HostReport};

pub(super) async fn report(
    engine: &Docker,
    config: &ContainerConfig,
    isolation: &NetworkIsolation,
    cgroup_parent: &str,
    now: Timestamp,
) -> Result<HostReport, HostError> {
    let info = engine.info().await?;
    let components = engine.version().await?.components.unwrap_or_default();
    let (mut missing_images, mut other_images) = (Vec::new(), Vec::new());
    for image in &config.images {
        match engine.inspect_image(image).await {
            Ok(there) => {
                let is_other = config.is_pinned_otherwise(image, &there.id.unwrap_or_default());
                other_images.extend(is_other.then(|| image.clone()));
            }
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
        // The volumes module adds these two, which the Engine does not know.
        disks: Vec::new(),
        buried: 0,
        missing_images,
        other_images,
        kernel_release: info.kernel_version.unwrap_or_default(),
        kernel_age_days: kernel_age_days(now).await,
        runtimes: sorted(info.runtimes.unwrap_or_default().into_keys()),
        security_options: sorted(info.security_options.unwrap_or_default().iter().map(|option| option_name(option))),
        live_restore: info.live_restore_enabled.unwrap_or_default(),
        egress: isolation.egress(config).await,
        neighbours: isolation.between(engine, config).await,
        containers: drift::detect(engine, config, cgroup_parent).await?,
    })
}

fn sorted(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.collect();
    items.sort_unstable();
    items
}

/// `name=seccomp,profile=default` is `seccomp`.
fn option_name(option: &str) -> String {
    option.trim_start_matches("name=").split(',').next().unwrap_or_default().to_owned()
}

async fn kernel_age_days(now: Timestamp) -> Option<u32> {
    let version = tokio::fs::read_to_string("/proc/sys/kernel/version").await.ok()?;
    u32::try_from((now.utc_date() - kernel_date(&version)?).num_days()).ok()
}

/// The build date in a kernel's version string: Debian's ends in `(2025-08-26)`, others' in `Tue Aug 26 10:11:12 UTC
/// 2025`.
fn kernel_date(version: &str) -> Option<NaiveDate> {
    let words: Vec<&str> = version.split_whitespace().collect();
    let last = words.last()?;
    if let Some(date) = last.strip_prefix('(').and_then(|last| last.strip_suffix(')')) {
        return date.parse().ok();
    }
    let read = |month: &str, day: &str| NaiveDate::parse_from_str(&format!("{day} {month} {last}"), "%d %b %Y").ok();
    words.windows(2).find_map(|pair| read(pair[0], pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_tells_its_build_date_in_one_of_two_formats() {
        for (version, day) in [
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.148-1 (2025-08-26)\n", Some(20_326)),
            ("#51-Ubuntu SMP PREEMPT_DYNAMIC Tue Aug 26 10:11:12 UTC 2025\n", Some(20_326)),
            ("#1 SMP Thu Jan  1 00:00:00 UTC 1970", Some(0)),
            ("#1 SMP Thu Feb 29 00:00:00 UTC 2024", Some(19_782)),
            ("#1 SMP PREEMPT_DYNAMIC @0\n", None),
            ("#1 SMP (soon)", None),
            ("", None),
        ] {
            let days = kernel_date(version).map(|date| (date - Timestamp(0).utc_date()).num_days());
            assert_eq!(days, day, "{version}");
        }
    }
}
