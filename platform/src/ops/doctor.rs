//! Looks at everything Berth stands on and says in a sentence what is not as it should be. Changes nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Config, DiskLimit};
use crate::containers::{ContainerHost, HostReport, gateway};
use crate::db::Db;
use crate::quota;

/// Disks this full or fuller are reported; at 80 % no new volume is made, at 90 % nothing is woken.
const DISK_ALARM_PERCENT: u8 = 75;
const TRY: Duration = Duration::from_secs(3);

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What was found and, unless it is fine, what to do.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Works, but less well or less safely than it could.
    Warning,
    /// Does not work.
    Broken,
}

/// Examines database, books, provisioner, host, images and listeners.
pub async fn examine(config: &Config, db: anyhow::Result<Db>, host: &dyn ContainerHost) -> Vec<Finding> {
    let mut findings = of_database(db).await;
    match host.host_report().await {
        Ok(report) => {
            findings.push(fine("provisioner", format!("answers; Docker Engine {}", report.engine_version)));
            findings.extend(of_host(&report, config));
        }
        Err(error) => findings.push(broken(
            "provisioner",
            format!("{error}. Start it with: berth provisioner (socket {})", config.containers.socket.display()),
        )),
    }
    findings.push(listener("platform", config.listen, "berth serve").await);
    findings.push(listener("certificates", config.internal_listen, "berth serve").await);
    for bridge in 0..u32::from(config.containers.bridges) {
        findings.push(quota_proxy(gateway(config.containers.subnet, bridge), config.quota_port).await);
    }
    if config.anthropic.key.is_none() || config.openai.key.is_none() {
        findings.push(warning(
            "provider keys",
            "the demo model answers where ANTHROPIC_API_KEY or OPENAI_API_KEY is not set".into(),
        ));
        findings.push(listener("demo model", config.demo_listen, "berth demo-upstream").await);
    }
    findings
}

async fn of_database(db: anyhow::Result<Db>) -> Vec<Finding> {
    let db = match db {
        Ok(db) => db,
        Err(error) => {
            return vec![broken("database", format!("{error:#}. Check BERTH_DATA_DIR and DATABASE_URL."))];
        }
    };
    if let Err(error) = db.ping().await {
        return vec![broken("database", error.to_string())];
    }
    let mut findings = vec![fine("database", "answers, schema up to date".into())];
    match quota::disagreements(&db).await {
        Ok(wrong) if wrong.is_empty() => findings.push(fine("money", "the books agree".into())),
        Ok(wrong) => findings.extend(wrong.into_iter().map(|sentence| broken("money", sentence))),
        Err(error) => findings.push(broken("money", error.to_string())),
    }
    findings
}

fn of_host(report: &HostReport, config: &Config) -> Vec<Finding> {
    let mut findings = vec![warning(
        "egress",
        format!(
            "instances reach what this host reaches. Filter {}* with your own firewall: metadata, private networks, mail, this host's ports.",
            config.containers.network
        ),
    )];
    findings.push(match report.missing_images.as_slice() {
        [] => fine("images", format!("{} there", config.containers.images.join(", "))),
        missing => broken(
            "images",
            format!("{} not on this host. Build or load it, or correct BERTH_IMAGES.", missing.join(", ")),
        ),
    });
    findings.push(match report.swap_mib {
        0 => warning(
            "swap",
            "the host has none, so a frozen instance keeps its memory. Add a swap file to hold more of them.".into(),
        ),
        mib => fine("swap", format!("{mib} MiB for frozen instances (cgroup v{})", report.cgroup_version)),
    });
    findings.extend(of_disks(report));
    findings.push(if is_safe_runc(&report.runc_version) {
        fine("runc", report.runc_version.clone())
    } else {
        warning(
            "runc",
            format!(
                "{} has known ways out of a container (CVE-2025-31133). Upgrade to 1.2.8, 1.3.3 or newer.",
                report.runc_version
            ),
        )
    });
    findings
}

fn of_disks(report: &HostReport) -> Vec<Finding> {
    let mut findings = vec![match report.disk_limit {
        DiskLimit::Image => fine("volumes", "each a file system of its own, blocks and inodes bounded".into()),
        DiskLimit::None => warning(
            "volumes",
            "nothing bounds them: one instance can fill the disk. Set BERTH_DISK=image (needs root, mkfs.ext4 and losetup).".into(),
        ),
    }];
    for disk in &report.disks {
        let used =
            format!("{}: {} % used, {} % of the inodes", disk.holds, disk.used_percent, disk.inodes_used_percent);
        findings.push(match disk.fullest() {
            0..DISK_ALARM_PERCENT => fine("disk", used),
            _ => {
                warning("disk", format!("{used}. Free some space: at 80 % no instance is made, at 90 % none is woken."))
            }
        });
    }
    if report.buried > 0 {
        findings.push(warning(
            "deletion",
            format!("{} volumes wait to be destroyed. berth user list says whose accounts leave.", report.buried),
        ));
    }
    findings
}

/// Fixed in 1.2.8 and 1.3.3 (runc's advisories for CVE-2025-31133, 52565 and 52881); 1.1 gets no fix.
fn is_safe_runc(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let (major, minor, patch) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match (major, minor) {
        (1, 2) => patch >= 8,
        (1, 3) => patch >= 3,
        (major, minor) => (major, minor) > (1, 3),
    }
}

async fn quota_proxy(gateway: Ipv4Addr, port: u16) -> Finding {
    let address = SocketAddr::from((gateway, port));
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => fine("quota proxy", format!("listens on {address}")),
        _ => broken(
            "quota proxy",
            format!(
                "nothing listens on {address}, so instances there make no AI calls. berth serve does once the \
                 provisioner has made the bridge; when another program has the port, set BERTH_QUOTA_PORT."
            ),
        ),
    }
}

async fn listener(subject: &'static str, address: SocketAddr, command: &str) -> Finding {
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => fine(subject, format!("listens on {address}")),
        _ => broken(subject, format!("nothing listens on {address}. Start it with: {command}")),
    }
}

fn fine(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Fine, subject, sentence }
}

fn warning(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Warning, subject, sentence }
}

fn broken(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Broken, subject, sentence }
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
}
