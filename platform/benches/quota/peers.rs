//! The proxies between a caller and the provider that are compared: each is a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use super::berth_role::Said;
use super::figures::Figures;
use super::litellm;
use super::process::Process;
use super::questions::Caller;

/// The pause after all processes have started, in which they release the memory that starting took.
const SETTLED: Duration = Duration::from_secs(2);
/// Fields of `/proc/PID/status`: what a process has in memory, and the most it ever had.
const RESIDENT: &str = "VmRSS:";
const MOST_RESIDENT: &str = "VmHWM:";

/// All of it, ended when dropped.
pub struct BenchSetup {
    /// All proxies, and first the provider itself, which they are compared with.
    pub peers: Vec<Peer>,
    pub berth: Berth,
    litellm: Process,
    upstream_port: u16,
    _others: [Process; 2],
    folder: TempDir,
}

/// The address of a listener, and its path prefixes for calls of either kind.
#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    pub address: SocketAddr,
    pub openai: &'static str,
    pub anthropic: &'static str,
}

/// A platform with people whose instances are awake.
pub struct Berth {
    pub process: Process,
    pub said: Said,
}

impl BenchSetup {
    pub fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut upstream = ourselves("upstream", &[], &folder.path().join("upstream.log"))?;
        let upstream_port: u16 = first_line(&mut upstream)?.trim().parse()?;
        let (litellm, litellm_address) = litellm::start(folder.path(), upstream_port)?;
        let port = ["--upstream".to_owned(), upstream_port.to_string()];
        let mut ungoverned = ourselves("ungoverned", &port, &folder.path().join("ungoverned.log"))?;
        let ungoverned_address = first_line(&mut ungoverned)?.trim().parse()?;
        let berth = Berth::start(&port, &folder.path().join("berth.log"))?;
        let plain = |name, address| Peer { name, address, openai: "", anthropic: "" };
        let peers = vec![
            plain("direct", (Ipv4Addr::LOCALHOST, upstream_port).into()),
            plain("litellm", litellm_address),
            berth.peer(),
            Peer { name: "berth_ungoverned", address: ungoverned_address, ..berth.peer() },
        ];
        Ok(Self { peers, berth, litellm, upstream_port, _others: [upstream, ungoverned], folder })
    }

    /// Those of these names.
    pub fn some(&self, names: &[&str]) -> Vec<Peer> {
        self.peers.iter().filter(|peer| names.contains(&peer.name)).copied().collect()
    }

    /// Who calls. Others than Berth take no notice of it.
    pub fn callers(&self) -> &[Caller] {
        &self.berth.said.callers
    }

    /// Another platform, on which each account may spend so much.
    pub fn another_berth(&self, allowance_nanodollars: i64) -> anyhow::Result<Berth> {
        let arguments = ["--upstream", &self.upstream_port.to_string()].map(str::to_owned);
        let allowance = ["--allowance-nanodollars".to_owned(), allowance_nanodollars.to_string()];
        Berth::start(&[arguments, allowance].concat(), &self.folder.path().join("another.log"))
    }

    /// What both proxies have in memory before the first call. LiteLLM's workers share some pages, and each counts
    /// them; those are few beside what it has for itself.
    pub fn note_idle_memory(&self, figures: &mut Figures) -> anyhow::Result<()> {
        std::thread::sleep(SETTLED);
        self.note_memory("quota.idle_rss_mib", RESIDENT, figures)
    }

    /// The most they had in all that was done.
    pub fn note_peak_memory(&self, figures: &mut Figures) -> anyhow::Result<()> {
        self.note_memory("quota.peak_rss_mib", MOST_RESIDENT, figures)
    }

    fn note_memory(&self, name: &'static str, field: &str, figures: &mut Figures) -> anyhow::Result<()> {
        for (peer, process) in [("berth", &self.berth.process), ("litellm", &self.litellm)] {
            figures.of(name, peer, memory_kib(process.id(), field)? / 1024.0, "MiB");
        }
        Ok(())
    }
}

impl Berth {
    fn start(arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        let mut process = ourselves("berth", arguments, log)?;
        let line = first_line(&mut process)?;
        let said = serde_json::from_str(&line)
            .with_context(|| format!("Berth did not start: {}", std::fs::read_to_string(log).unwrap_or_default()))?;
        Ok(Self { process, said })
    }

    /// As those see it who make calls.
    pub fn peer(&self) -> Peer {
        Peer { name: "berth", address: self.said.proxy, openai: "/openai", anthropic: "/anthropic" }
    }
}

/// This program again, in another role.
fn ourselves(role: &'static str, arguments: &[String], log: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role]).args(arguments);
    Process::start(role, &command, log)
}

fn first_line(process: &mut Process) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(process.take_stdout()?).read_line(&mut line)?;
    Ok(line)
}

/// A process and those that it started, by the kernel's account.
fn memory_kib(id: u32, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("a process has memory")?;
    let own: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let theirs = children.split_whitespace().map(|child| memory_kib(child.parse()?, field));
    Ok(own + theirs.sum::<anyhow::Result<f64>>()?)
}
