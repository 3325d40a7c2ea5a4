//! Child processes, which end with this one however it ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use berth_ground::clock::Clock;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// How long a process may take to listen, and to end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A child process. Terminated when dropped, and killed if it does not end in time.
pub struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a program; `name` appears in errors. Its standard error goes to `log`.
    pub fn start(name: &'static str, command: &Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log)?;
        // The kernel terminates it when this process dies, even by SIGKILL.
        let mut under = Command::new("setpriv");
        under.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            if let Some(value) = value {
                under.env(variable, value);
            }
        }
        let child = under.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        Ok(Self { name, child: child.with_context(|| format!("starting {name}"))? })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output. Can be taken once.
    pub fn take_stdout(&mut self) -> anyhow::Result<ChildStdout> {
        self.child.stdout.take().with_context(|| format!("the output of {} was taken already", self.name))
    }

    /// Waits until it accepts connections on `address`.
    pub fn listens(mut self, address: SocketAddr) -> anyhow::Result<Self> {
        let began = Clock::system().monotonic();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once, {status}: is it installed, and whole?", self.name);
            }
            if began.elapsed() > TIMEOUT {
                bail!("{} does not listen on {address} after {} seconds", self.name, TIMEOUT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Its resident memory, as the kernel counts it.
    pub fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx stops its workers only on SIGTERM. Killed, it would leave them behind.
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let began = Clock::system().monotonic();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > TIMEOUT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Completes when this process, one of the benchmark's, is terminated.
pub async fn until_told_to_end() -> anyhow::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = told.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// A free port on loopback.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Raises the limit on open files of this process and its children to the maximum that the machine allows.
pub fn allow_many_files() -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}
