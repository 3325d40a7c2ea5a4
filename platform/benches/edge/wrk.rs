//! Load generation with wrk, which keeps connections busy and counts the responses.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::berth_role::Visitor;

const CONNECTIONS: &str = "-c32";
/// Two threads would compete with the proxy under test for a processor.
const THREADS: &str = "-t1";

/// Responses a second from `url` over this many seconds; an error if one is incomplete or no 2xx. Names resolve to
/// loopback.
pub fn requests_a_second(url: &str, visitor: &Visitor, seconds: u64) -> anyhow::Result<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/edge/loopback.lua");
    let ran = Command::new("wrk")
        .args([CONNECTIONS, THREADS, "-H", &format!("Host: {}", visitor.host)])
        .args(["-H", &format!("Cookie: {}", visitor.cookie), &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(url)
        .output()
        .context("wrk does not run: run this by scripts/bench edge, which installs it")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let all_well = ran.status.success() && !said.contains("Socket errors") && !said.contains("Non-2xx");
    ensure!(all_well, "not every request to {url} succeeded:\n{said}{}", String::from_utf8_lossy(&ran.stderr));
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk reports the rate")?;
    Ok(rate.trim().parse()?)
}
