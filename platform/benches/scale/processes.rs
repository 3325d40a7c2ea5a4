//! The platform and the provisioner as processes of their own, and what the kernel says of them.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use berth::config::Config;
use tempfile::TempDir;

pub const ENGINE: &str = "/var/run/docker.sock";
/// Prefix of everything this bench makes on the Engine.
pub const NETWORK: &str = "scale";
pub const IMAGE: &str = "scale-tenant:1";
const LISTEN: &str = "127.0.0.1:9730";
const SETTINGS: [(&str, &str); 11] = [
    ("BERTH_DOMAIN", "example.com"),
    ("BERTH_SECRET", "a secret for benches, 32 characters and more"),
    ("BERTH_LISTEN", LISTEN),
    ("BERTH_INTERNAL_LISTEN", "127.0.0.1:9731"),
    ("BERTH_QUOTA_PORT", "9732"),
    ("BERTH_NETWORK", NETWORK),
    ("BERTH_SUBNET", "10.90.0.0"),
    ("BERTH_BRIDGES", "10"),
    ("BERTH_IMAGES", IMAGE),
    ("BERTH_MEMORY_MIB", "64"),
    ("BERTH_LOG", "warn"),
];

/// Killed when dropped.
pub struct Processes {
    folder: TempDir,
    platform: Option<Child>,
    provisioner: Option<Child>,
}

impl Processes {
    /// Nothing runs yet.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, platform: None, provisioner: None })
    }

    pub fn config(&self) -> anyhow::Result<Config> {
        let data = self.folder.path().display().to_string();
        Ok(Config::read(&|name| match name {
            "BERTH_DATA_DIR" => Some(data.clone()),
            _ => SETTINGS.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        })?)
    }

    pub fn start_provisioner(&mut self) -> anyhow::Result<()> {
        self.provisioner = Some(self.spawn("berth-provisioner", &[])?);
        Ok(())
    }

    pub fn start_platform(&mut self) -> anyhow::Result<()> {
        self.platform = Some(self.spawn("berth", &["serve"])?);
        Ok(())
    }

    pub fn is_healthy(&self) -> bool {
        TcpStream::connect(LISTEN).is_ok() && self.folder.path().join("run/control.sock").exists()
    }

    /// What both have used of the processor since they began.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for pid in self.pids()? {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // After the name, which may contain anything: fields 14 and 15 of the whole, in ticks of 10 ms (proc(5)).
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            for at in [11, 12] {
                ticks += fields.get(at).context("a process has times")?.parse::<f64>()?;
            }
        }
        Ok(ticks / 100.0)
    }

    /// What platform and provisioner have in memory.
    pub fn resident_mib(&self) -> anyhow::Result<[f64; 2]> {
        let [platform, provisioner] = self.pids()?.map(|pid| -> anyhow::Result<f64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
            Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
        });
        Ok([platform?, provisioner?])
    }

    fn pids(&self) -> anyhow::Result<[u32; 2]> {
        let of = |child: &Option<Child>| child.as_ref().map(Child::id).context("it runs");
        Ok([of(&self.platform)?, of(&self.provisioner)?])
    }

    #[expect(clippy::disallowed_methods, reason = "scripts/bench, not the operator, sets this variable")]
    fn spawn(&self, program: &str, words: &[&str]) -> anyhow::Result<Child> {
        let binary = std::env::var("BERTH_TEST_BINARY").context("run this by scripts/bench scale")?;
        let mut command = Command::new(Path::new(&binary).with_file_name(program));
        command.args(words).env_clear().envs(SETTINGS).env("BERTH_DATA_DIR", self.folder.path()).stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").spawn().with_context(|| format!("starting {program}"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in [&mut self.platform, &mut self.provisioner].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
