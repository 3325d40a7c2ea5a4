//! A fixture with the complete deployment, started by `scripts/up` beside other deployments on this machine:
//! provisioner, platform, demo model, Caddy with its own CA, the Docker Engine. It has its own ports, networks and
//! data, and is shut down when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::wait::Wait;

/// How long a test waits for a change of the stack.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct DeployedStack {
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
}

impl DeployedStack {
    /// Builds missing artifacts, starts all services with these settings in addition to its own, and waits until they
    /// are healthy.
    pub fn up_with(settings: &[(&'static str, String)]) -> Self {
        let stack = Self { folder: tempfile::tempdir().unwrap(), settings: settings.to_vec() };
        let up = stack.script("up").status().expect("scripts/up runs");
        assert!(up.success(), "scripts/up failed; what it said is above");
        stack
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The certificate of the CA that `scripts/up` tells people to trust.
    pub fn authority(&self) -> PathBuf {
        self.data().join("root.crt")
    }

    /// `https://HOST:PORT` of a label, or of the apex for an empty one.
    pub fn origin(&self, label: &str) -> String {
        format!("https://{}:{HTTPS_PORT}", host(label))
    }

    /// An operator's command; panics with what it said when it fails.
    pub fn berth(&self, words: &[&str]) -> String {
        let output = self.try_berth(words);
        assert!(output.status.success(), "berth {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn try_berth(&self, words: &[&str]) -> Output {
        let mut command = self.with_settings(Command::new(binary()));
        for line in std::fs::read_to_string(self.data().join("berth.env")).unwrap().lines() {
            if let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.starts_with("BERTH_")) {
                command.env(name, value);
            }
        }
        command.args(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Kills a part as a power cut would. `scripts/up` starts it again.
    pub fn kill(&self, part: &str) {
        let pid = std::fs::read_to_string(self.data().join(format!("run/{part}.pid"))).unwrap();
        let pid = pid.split_whitespace().next().unwrap().to_owned();
        let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
        assert!(killed.success());
    }

    /// Runs `scripts/up` again.
    pub fn up_again(&self) {
        assert!(self.script("up").stdout(Stdio::null()).status().unwrap().success());
    }

    /// A program's request through Caddy: status and body. `cookie` is a whole pair.
    pub fn curl(&self, label: &str, path: &str, more: &[&str]) -> (u16, String) {
        let output = self.try_curl(label, path, more);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    pub fn try_curl(&self, label: &str, path: &str, more: &[&str]) -> Output {
        Command::new("curl")
            .args(["-sS", "--max-time", "60", "-w", "\n%{http_code}", "--cacert"])
            .arg(self.authority())
            .args(["--resolve", &format!("{}:{HTTPS_PORT}:127.0.0.1", host(label))])
            .args(more)
            .arg(format!("{}{path}", self.origin(label)))
            .output()
            .unwrap()
    }

    /// Waits until `berth instance show` says that the fact is one of `facts`.
    pub fn until_fact(&self, handle: &str, facts: &[&str]) {
        self.until(&format!("{handle} to be {facts:?}"), || {
            let shown = self.berth(&["instance", "show", handle]);
            let fact = shown.lines().find_map(|line| line.strip_prefix("fact")).unwrap().trim();
            facts.iter().any(|wanted| fact.starts_with(wanted))
        });
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        let wait = Wait::within(PATIENCE).every(Duration::from_millis(200));
        assert!(wait.succeeds_blocking(holds), "waited in vain for {what}");
    }

    /// Containers of this stack, running or not, as the Engine tells it.
    pub fn containers(&self) -> Vec<String> {
        let filters = format!("{{\"label\":[\"berth.installation={NETWORK}\"]}}");
        let list = engine(&[
            "-G",
            "http://docker/containers/json",
            "--data-urlencode",
            "all=true",
            "--data-urlencode",
            &format!("filters={filters}"),
        ]);
        list.as_array().unwrap().iter().map(|c| c["Id"].as_str().unwrap().to_owned()).collect()
    }

    /// What the Engine knows of an instance's container.
    pub fn container(&self, instance: &str) -> Value {
        engine(&[&format!("http://docker/containers/{NETWORK}-{instance}/json")])
    }

    fn script(&self, name: &str) -> Command {
        let mut command = self.with_settings(Command::new(root().join("scripts").join(name)));
        command.stdin(Stdio::null());
        command
    }

    fn with_settings(&self, mut command: Command) -> Command {
        let settings = [
            ("BERTH_DOMAIN", "localhost"),
            ("BERTH_HTTPS_PORT", HTTPS_PORT),
            ("BERTH_HTTP_PORT", "9480"),
            ("BERTH_LISTEN", "127.0.0.1:9700"),
            ("BERTH_INTERNAL_LISTEN", "127.0.0.1:9701"),
            ("BERTH_QUOTA_PORT", "9702"),
            ("BERTH_DEMO_LISTEN", "127.0.0.1:9703"),
            ("BERTH_NETWORK", NETWORK),
            ("BERTH_SUBNET", "10.94.0.0"),
            ("BERTH_LOG", "info"),
        ];
        command.env("BERTH_DATA_DIR", self.data()).envs(settings);
        // Whatever the person who runs the tests has set for their own installation.
        for name in ["BERTH_SECRET", "DATABASE_URL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "BERTH_IMAGES"] {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        // What Cargo says of this test to this test. A build script that looks at it (ring's does) would run again, and
        // everything above it be compiled again.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Drop for DeployedStack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for part in ["platform", "provisioner", "caddy"] {
                let log = std::fs::read_to_string(self.data().join(format!("log/{part}.log"))).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                eprintln!("--- the end of {part}.log\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        let _ = self.script("down").stdout(Stdio::null()).status();
        // What the installation leaves for good reason is of no use to anybody now.
        let _ = Command::new(root().join("platform/tests/fixtures/engine")).args(["forget", NETWORK]).status();
    }
}

const HTTPS_PORT: &str = "9443";
const NETWORK: &str = "stories";

fn engine(request: &[&str]) -> Value {
    let curl = ["-sS", "--max-time", "20", "--unix-socket", "/var/run/docker.sock"];
    let output = Command::new("curl").args(curl).args(request).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn host(label: &str) -> String {
    if label.is_empty() { "localhost".into() } else { format!("{label}.localhost") }
}

pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

/// Where `scripts/up` puts the release build.
#[expect(clippy::disallowed_methods, reason = "scripts, not Berth, are what these variables speak to")]
fn binary() -> PathBuf {
    let cache = || PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/berth");
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| cache(), PathBuf::from);
    let host = Command::new("rustc").arg("-vV").current_dir(root()).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    target.join(host).join("release/berth")
}
