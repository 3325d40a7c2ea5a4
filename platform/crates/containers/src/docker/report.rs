//! What the operator should know of this host.

use bollard::Docker;
use bollard::models::SystemInfoCgroupVersionEnum;

use super::walls::Walls;
use super::{errors, made, reclaim};
use crate::config::ContainerConfig;
use crate::{HostError, HostReport};
use berth_ground::clock::Timestamp;

pub(super) async fn report(
    engine: &Docker,
    config: &ContainerConfig,
    walls: &Walls,
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
        // These two are not the Engine's to tell.
        disks: Vec::new(),
        buried: 0,
        missing_images,
        other_images,
        kernel_release: info.kernel_version.unwrap_or_default(),
        kernel_age_days: kernel_age_days(now).await,
        runtimes: sorted(info.runtimes.unwrap_or_default().into_keys()),
        security_options: sorted(info.security_options.unwrap_or_default().iter().map(|option| option_name(option))),
        live_restore: info.live_restore_enabled.unwrap_or_default(),
        egress: walls.egress(config).await,
        neighbours: walls.between(engine, config).await,
        containers: made::look(engine, config, cgroup_parent).await?,
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
    u32::try_from(now.seconds() / (24 * 60 * 60) - kernel_day(&version)?).ok()
}

/// The day a kernel was built, counted from 1970, as its version says it: Debian's ends in `(2025-08-26)`, others' in
/// `Tue Aug 26 10:11:12 UTC 2025`.
fn kernel_day(version: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = version.split_whitespace().collect();
    let last = *words.last()?;
    if let Some(date) = last.strip_prefix('(').and_then(|last| last.strip_suffix(')')) {
        let mut numbers = date.split('-').map(str::parse);
        return day(numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    }
    let at = words.iter().position(|word| MONTHS.contains(word))?;
    let month = MONTHS.iter().position(|month| month == &words[at])?;
    day(last.parse().ok()?, i64::try_from(month).ok()? + 1, words.get(at + 1)?.parse().ok()?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, which has 146 097 days in 400 years. Years begin in March here, so
/// that the day that comes and goes is their last.
fn day(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_when_it_was_built_in_one_of_two_ways() {
        for (version, day) in [
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.148-1 (2025-08-26)\n", Some(20_326)),
            ("#51-Ubuntu SMP PREEMPT_DYNAMIC Tue Aug 26 10:11:12 UTC 2025\n", Some(20_326)),
            ("#1 SMP Thu Jan  1 00:00:00 UTC 1970", Some(0)),
            ("#1 SMP Thu Feb 29 00:00:00 UTC 2024", Some(19_782)),
            ("#1 SMP PREEMPT_DYNAMIC @0\n", None),
            ("#1 SMP (soon)", None),
            ("", None),
        ] {
            assert_eq!(kernel_day(version), day, "{version}");
        }
    }
}
