//! A platform and a provisioner as real processes that can be killed, with a fault-injecting proxy before the
//! provisioner and one before the Engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth::db::Db;
use tokio_util::sync::CancellationToken;

use berth_testing::fault_proxy::FaultProxy;
use berth_testing::provisioner::provisioner_binary;
use berth_testing::tenant_image;
use berth_testing::wait::Wait;

pub const NETWORK: &str = "kill9";
pub const IMAGE: &str = "kill9-tenant:1";
pub const ENGINE: &str = "/var/run/docker.sock";
const LISTEN: &str = "127.0.0.1:9710";
const INTERNAL: &str = "127.0.0.1:9711";
const SETTINGS: [(&str, &str); 11] = [
    ("BERTH_DOMAIN", "example.com"),
    ("BERTH_SECRET", "a secret for kill tests, 32 characters and more"),
    ("BERTH_LISTEN", LISTEN),
    ("BERTH_INTERNAL_LISTEN", INTERNAL),
    ("BERTH_QUOTA_PORT", "9712"),
    ("BERTH_DEMO_LISTEN", "127.0.0.1:9713"),
    ("BERTH_NETWORK", NETWORK),
    ("BERTH_SUBNET", "10.91.0.0"),
    ("BERTH_IMAGES", IMAGE),
    ("BERTH_MEMORY_MIB", "64"),
    ("BERTH_LOG", "info"),
];
/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Platform,
    Provisioner,
}

/// Both processes, their proxies, and the data that survives a kill.
pub struct KillablePlatform {
    pub engine: FaultProxy,
    pub provisioner: FaultProxy,
    processes: [Option<Child>; 2],
    folder: tempfile::TempDir,
    demo: CancellationToken,
    _alone: std::fs::File,
}

impl KillablePlatform {
    pub async fn open() -> Self {
        let alone = std::fs::File::create(std::env::temp_dir().join("berth-kill9-test.lock")).unwrap();
        alone.lock().unwrap();
        tenant_image::sweep(ENGINE.as_ref(), NETWORK, IMAGE);
        tenant_image::make_image(IMAGE, ENGINE.as_ref());
        let folder = tempfile::tempdir().unwrap();
        for part in ["platform/run", "provisioner/run"] {
            std::fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        let engine = FaultProxy::the_engine(&folder.path().join("engine.sock"), ENGINE.as_ref());
        let provisioner = FaultProxy::the_provisioner(
            &folder.path().join("platform/run/provisioner.sock"),
            &folder.path().join("provisioner/run/provisioner.sock"),
        );
        let demo = CancellationToken::new();
        tokio::spawn(berth_demo::serve("127.0.0.1:9713".parse().unwrap(), demo.clone()));
        let mut platform = Self { engine, provisioner, processes: [None, None], folder, demo, _alone: alone };
        platform.start().await;
        platform
    }

    pub fn address(&self) -> SocketAddr {
        LISTEN.parse().unwrap()
    }

    pub fn database(&self) -> String {
        format!("sqlite:{}", self.data("platform").join("berth.db").display())
    }

    /// The settings of the platform, for an operator's command.
    pub fn config(&self) -> berth::config::Config {
        let data = self.data("platform").display().to_string();
        let lookup = |name: &str| match name {
            "BERTH_DATA_DIR" => Some(data.clone()),
            _ => SETTINGS.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        };
        berth::config::Config::read(&lookup).unwrap()
    }

    pub async fn ledger(&self) -> Db {
        Db::open(&self.database()).await.unwrap()
    }

    /// As a power cut would: no last word, nothing tidied up.
    pub fn kill(&mut self, part: Part) {
        if let Some(mut child) = self.processes[part as usize].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts whatever does not run, and waits until both answer.
    pub async fn start(&mut self) {
        self.begin_to_start();
        self.until("the provisioner listens", || self.data("provisioner").join("run/provisioner.sock").exists()).await;
        self.until("the platform answers", is_healthy).await;
    }

    /// Starts the processes that do not run, and does not wait for them.
    pub fn begin_to_start(&mut self) {
        if self.processes[Part::Provisioner as usize].is_none() {
            let _ = std::fs::remove_file(self.data("provisioner").join("run/provisioner.sock"));
            // In a mount namespace of its own, in which the proxy's socket replaces the Engine's.
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c"]);
            command.args(["mount --bind \"$1\" /var/run/docker.sock && exec \"$2\"", "sh"]);
            command.arg(&self.engine.socket).arg(provisioner_binary());
            self.processes[Part::Provisioner as usize] = Some(self.spawn(command, "provisioner"));
        }
        if self.processes[Part::Platform as usize].is_none() {
            let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
            command.arg("serve");
            self.processes[Part::Platform as usize] = Some(self.spawn(command, "platform"));
        }
    }

    fn spawn(&self, mut command: Command, part: &str) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log(part)).unwrap();
        command
            .env_clear()
            .envs(SETTINGS)
            .env("BERTH_DATA_DIR", self.data(part))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if part == "provisioner" {
            command.env_remove("BERTH_SECRET");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        Wait::within(PATIENCE).every(Duration::from_millis(20)).until(what, async || holds()).await;
    }

    fn data(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    fn log(&self, part: &str) -> PathBuf {
        self.folder.path().join(format!("{part}.log"))
    }
}

/// Whether the health check succeeds: the platform listens before it is ready to answer.
fn is_healthy() -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(INTERNAL) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut answer = String::new();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_ok() && {
        let _ = stream.read_to_string(&mut answer);
        answer.contains(" 200 ")
    }
}

impl Drop for KillablePlatform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for part in ["platform", "provisioner"] {
                let log = std::fs::read_to_string(self.log(part)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                eprintln!("--- the end of {part}.log\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            }
        }
        self.kill(Part::Platform);
        self.kill(Part::Provisioner);
        self.demo.cancel();
        tenant_image::sweep(ENGINE.as_ref(), NETWORK, IMAGE);
    }
}
