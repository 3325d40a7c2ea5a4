//! The doctor's check of the limit on open files (RLIMIT_NOFILE) of the running platform.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::modules::Finding;

/// Enough for the connections of 500 instances and their visitors: the limit that the systemd units set.
const ENOUGH: u64 = 65_536;
/// The timeout of the connection to the platform.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The limit of the process that listens on the control socket; `None` if none does, which other checks report.
pub(super) async fn examine(control_socket: &Path) -> Option<Finding> {
    let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(control_socket)).await.ok()?.ok()?;
    // SO_PEERCRED: for a connecting socket, the process that listens. This process has another limit.
    let pid = connected.peer_cred().ok()?.pid()?;
    let limits = tokio::fs::read_to_string(format!("/proc/{pid}/limits")).await.ok()?;
    parse_soft(&limits).map(judge)
}

/// `soft` is the number of files that the platform may open; `u64::MAX` for no limit.
fn judge(soft: u64) -> Finding {
    let many = if soft == u64::MAX { "any number of files".to_owned() } else { soft.to_string() };
    if soft >= ENOUGH {
        return Finding::fine("open files", format!("the platform may open {many}"));
    }
    Finding::warning(
        "open files",
        format!(
            "the platform may open only {many}, and each connection takes one or two. Allow {ENOUGH}: LimitNOFILE in its \
             systemd unit, ulimits in the compose file, or ulimit -Hn before scripts/up."
        ),
    )
}

/// The soft limit in the text of `/proc/PID/limits` (proc(5)); `u64::MAX` for none.
fn parse_soft(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::Verdict;

    #[test]
    fn fewer_open_files_than_the_units_allow_are_a_warning() {
        for (soft, verdict) in
            [(1024, Verdict::Warning), (65_535, Verdict::Warning), (65_536, Verdict::Fine), (u64::MAX, Verdict::Fine)]
        {
            assert_eq!(judge(soft).verdict, verdict, "{soft}");
        }
    }

    #[test]
    fn the_soft_limit_is_read_and_not_the_hard_one() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             7823                 7823                 processes \n\
                     Max open files            {soft:<20} 1048576              files     \n"
            )
        };
        assert_eq!(parse_soft(&limits("1024")), Some(1024));
        assert_eq!(parse_soft(&limits("unlimited")), Some(u64::MAX));
        assert_eq!(parse_soft("Max processes 1 2 processes"), None);
    }
}
