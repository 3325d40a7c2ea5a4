//! A fixture that runs a separate Docker Engine, which a test may stop and kill: its own data, socket and bridge, and
//! no firewall rules of its own in the kernel. Containers survive its restart (`live-restore`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::wait::Wait;

/// How long an Engine may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The default bridge of an additional Engine. An Engine that is configured without a default bridge deletes the
/// machine's `docker0`, although it belongs to another Engine.
pub struct OwnBridge(String);

impl OwnBridge {
    pub fn make() -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let bridge = Self(format!("own{}x{number}", std::process::id()));
        ip(&["link", "add", bridge.name(), "type", "bridge"]);
        ip(&["address", "add", &format!("10.87.{number}.1/24"), "dev", bridge.name()]);
        ip(&["link", "set", bridge.name(), "up"]);
        bridge
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for OwnBridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", self.name()]).status();
    }
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
}

pub struct OwnEngine {
    bridge: OwnBridge,
    folder: tempfile::TempDir,
    containerd: Child,
    process: Option<Child>,
}

impl OwnEngine {
    pub fn start_up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // By itself, as systemd has it: it does not go with the Engine.
        let mut containerd = Command::new("containerd");
        containerd.arg("--address").arg(path("containerd.sock")).arg("--root").arg(path("containerd"));
        containerd.arg("--state").arg(path("containerd-state")).stdin(Stdio::null());
        let containerd = containerd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut engine = Self { bridge: OwnBridge::make(), folder, containerd, process: None };
        engine.start();
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Starts it, after whatever happened to it.
    pub fn start(&mut self) {
        let log = |engine: &Self| std::fs::read_to_string(engine.path("log")).unwrap_or_default();
        assert!(self.try_start(), "it does not answer:\n{}", log(self));
    }

    fn try_start(&mut self) -> bool {
        let _ = std::fs::remove_file(self.path("pid"));
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut dockerd = Command::new("dockerd");
        dockerd.arg("--data-root").arg(self.path("data")).arg("--exec-root").arg(self.path("exec"));
        dockerd.arg("--pidfile").arg(self.path("pid")).arg("--host").arg(format!("unix://{}", self.socket().display()));
        dockerd.args(["--bridge", self.bridge.name()]);
        dockerd.args(["--iptables=false", "--ip6tables=false", "--live-restore"]);
        dockerd.arg("--containerd").arg(self.path("containerd.sock"));
        self.process = Some(dockerd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        Wait::within(START_TIMEOUT).every(Duration::from_millis(100)).succeeds_blocking(|| {
            let ping = Command::new("docker")
                .args(["--host", &format!("unix://{}", self.socket().display()), "version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            ping.unwrap().success()
        })
    }

    /// As a fault would: no last word.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// As its operator would.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let asked = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(asked.success());
        process.wait().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.process.is_none() {
            self.try_start();
        }
        // With live-restore it leaves behind what runs.
        let socket = format!("unix://{}", self.socket().display());
        let docker = |words: &[&str]| Command::new("docker").args(["--host", &socket]).args(words).output();
        if let Ok(there) = docker(&["ps", "-aq"]) {
            let ids = String::from_utf8_lossy(&there.stdout).into_owned();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let _ = docker(&[&["rm", "-fv"][..], &ids].concat());
            let _ = docker(&["network", "prune", "-f"]);
        }
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        unmount_below(self.folder.path());
    }
}

/// What it mounted and did not unmount would keep its folder.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(folder));
    let mut below: Vec<&str> = below.collect();
    below.reverse();
    for mount in below {
        let _ = Command::new("umount").args(["--lazy", mount]).status();
    }
}
