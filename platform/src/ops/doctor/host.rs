//! The doctor's checks of the host, from the provisioner's report: isolation of tenants, versions with known
//! vulnerabilities, images, swap and disk space.

use berth_containers::HostReport;

use crate::config::{Config, DiskLimit};
use crate::modules::Finding;

/// Disk usage from which a warning is given. At 80 % no volume is created, at 90 % no instance is woken.
const DISK_ALARM_PERCENT: u8 = 75;
/// The first Engine that blocks access from other hosts to ports published on loopback (its release notes; moby 45610).
const ENGINE_MAJOR: u32 = 28;
/// Maximum age of the kernel: stable kernels with security fixes are released about weekly.
const KERNEL_DAYS: u32 = 60;

pub(super) fn examine(report: &HostReport, config: &Config) -> Vec<Finding> {
    let mut findings = walls(report);
    findings.extend(versions(report, config));
    findings.extend(images(report, config));
    findings.push(match report.swap_mib {
        0 => Finding::warning(
            "swap",
            "the host has none, so frozen instances keep their memory. Add a swap file to free it.".into(),
        ),
        mib => Finding::fine("swap", format!("{mib} MiB for frozen instances (cgroup v{})", report.cgroup_version)),
    });
    findings.extend(of_disks(report));
    findings
}

/// Isolation: firewall rules, container configuration, seccomp, AppArmor or SELinux.
fn walls(report: &HostReport) -> Vec<Finding> {
    let stands = |subject, sentence: &str, wall: &Result<(), String>| match wall {
        Ok(()) => Finding::fine(subject, sentence.to_owned()),
        Err(why) => Finding::broken(subject, format!("{why}. No instance starts until this is fixed.")),
    };
    let mut findings = vec![
        stands(
            "egress",
            "instances can reach the internet and the quota proxy, but not this host, its networks, cloud metadata or mail ports",
            &report.egress,
        ),
        stands("neighbours", "instances cannot reach each other", &report.neighbours),
    ];
    let containers = &report.containers;
    findings.push(if containers.changed.is_empty() {
        let older = match containers.older {
            0 => String::new(),
            older => format!("; {older} with an outdated image, version or settings, replaced when they next start"),
        };
        Finding::fine("containers", format!("{} unchanged since creation{older}", containers.as_made))
    } else {
        Finding::broken(
            "containers",
            format!(
                "changed from outside Berth: {}. Remove these containers with docker rm -f; Berth makes new ones when the instances next wake.",
                containers.changed.join("; ")
            ),
        )
    });
    // The Engine reports only options that are active, so a missing one is a finding.
    let has = |option: &str| report.security_options.iter().any(|there| there == option);
    if !has("seccomp") {
        findings.push(Finding::broken(
            "seccomp",
            "the Engine does not filter system calls. Install an Engine with seccomp support.".into(),
        ));
    }
    if !has("apparmor") && !has("selinux") {
        findings.push(Finding::warning(
            "confinement",
            "neither AppArmor nor SELinux confines containers here. Enable one of them in the kernel.".into(),
        ));
    }
    findings
}

/// Versions with known container escapes, and settings that end instances without need.
fn versions(report: &HostReport, config: &Config) -> Vec<Finding> {
    let mut findings = vec![if is_current_engine(&report.engine_version) {
        Finding::fine("engine", format!("Docker Engine {}", report.engine_version))
    } else {
        Finding::warning(
            "engine",
            format!("Docker Engine {} is old. Upgrade to {ENGINE_MAJOR} or newer.", report.engine_version),
        )
    }];
    findings.push(if is_safe_runc(&report.runc_version) {
        Finding::fine("runc", report.runc_version.clone())
    } else {
        Finding::warning(
            "runc",
            format!(
                "{} has known container escapes (CVE-2025-31133). Upgrade to 1.2.8, 1.3.3 or newer.",
                report.runc_version
            ),
        )
    });
    findings.push(match report.kernel_age_days {
        Some(days) if days > KERNEL_DAYS => Finding::warning(
            "kernel",
            format!("{} was built {days} days ago. Upgrade it and restart the host.", report.kernel_release),
        ),
        Some(days) => Finding::fine("kernel", format!("{}, built {days} days ago", report.kernel_release)),
        None => Finding::fine("kernel", format!("{}, of unknown build date", report.kernel_release)),
    });
    if !report.live_restore {
        findings.push(Finding::warning(
            "live-restore",
            "an upgrade of Docker stops every instance. Set \"live-restore\": true in /etc/docker/daemon.json.".into(),
        ));
    }
    let runtime = config.containers.runtime.name();
    findings.push(if report.runtimes.iter().any(|there| there == runtime) {
        Finding::fine("runtime", format!("instances run with {runtime}"))
    } else {
        Finding::broken(
            "runtime",
            format!(
                "BERTH_RUNTIME is {runtime}, which the Engine does not have ({}). Install it and add it to \
                 /etc/docker/daemon.json.",
                report.runtimes.join(", ")
            ),
        )
    });
    findings
}

/// Images that are missing, or that differ from their pinned digest.
fn images(report: &HostReport, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !report.missing_images.is_empty() {
        let missing = report.missing_images.join(", ");
        findings.push(Finding::broken(
            "images",
            format!("missing on this host: {missing}. Build or load them, or correct BERTH_IMAGES."),
        ));
    }
    if !report.other_images.is_empty() {
        let other = report.other_images.join(", ");
        findings.push(Finding::broken(
            "images",
            format!(
                "not the digest that BERTH_IMAGES pins: {other}. Load the pinned image, or correct the digest after the @."
            ),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("images", format!("available: {}", config.containers.images.join(", "))));
    }
    findings
}

/// Limits of volumes, disk usage, and volumes with a tombstone.
fn of_disks(report: &HostReport) -> Vec<Finding> {
    let mut findings = vec![match report.disk_limit {
        DiskLimit::Image => Finding::fine("volumes", "each has its own file system with a limit of blocks and inodes".into()),
        DiskLimit::None => Finding::warning(
            "volumes",
            "without a size limit: one instance can fill the disk. Set BERTH_DISK=image (needs root, mkfs.ext4 and losetup).".into(),
        ),
    }];
    for disk in &report.disks {
        let used =
            format!("{}: {} % used, {} % of the inodes", disk.holds, disk.used_percent, disk.inodes_used_percent);
        findings.push(match disk.fullest() {
            0..DISK_ALARM_PERCENT => Finding::fine("disk", used),
            _ => Finding::warning(
                "disk",
                format!("{used}. Free some space: at 80 % no instance is made, at 90 % none is woken."),
            ),
        });
    }
    if report.buried > 0 {
        findings.push(Finding::warning(
            "deletion",
            format!(
                "{} volumes wait for their deletion. berth user list shows the accounts with a scheduled deletion.",
                report.buried
            ),
        ));
    }
    findings
}

/// Fixed in 1.2.8 and 1.3.3 (runc's advisories for CVE-2025-31133, 52565 and 52881); 1.1 gets no fix.
fn is_safe_runc(version: &str) -> bool {
    match numbers(version) {
        (1, 2, patch) => patch >= 8,
        (1, 3, patch) => patch >= 3,
        (major, minor, _) => (major, minor) > (1, 3),
    }
}

fn is_current_engine(version: &str) -> bool {
    numbers(version).0 >= ENGINE_MAJOR
}

fn numbers(version: &str) -> (u32, u32, u32) {
    // A missing part counts as 0, so an unreadable version is reported as old rather than trusted.
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_runc_with_known_holes_are_named() {
        for (version, safe) in [
            ("1.1.5+ds1", false),
            ("1.2.7", false),
            ("1.2.8", true),
            ("1.3.2", false),
            ("1.3.3", true),
            ("1.4.0", true),
            ("2.0.0", true),
            ("", false),
        ] {
            assert_eq!(is_safe_runc(version), safe, "{version}");
        }
    }

    #[test]
    fn engines_before_28_are_named() {
        for (version, current) in
            [("20.10.24+dfsg1", false), ("27.5.1", false), ("28.0.0", true), ("29.1.0-rc.1", true), ("", false)]
        {
            assert_eq!(is_current_engine(version), current, "{version}");
        }
    }
}
