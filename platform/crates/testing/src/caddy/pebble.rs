//! A fixture that runs an ACME certificate authority: Debian's pebble, with a fake DNS server that resolves every name
//! to this machine. It has its own ports and data.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{CaddyProxy, free_port};
use crate::fake_platform::FakePlatform;
use crate::wait::Wait;

/// How long it may take to start, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Pebble {
    folder: tempfile::TempDir,
    management: u16,
    names: Child,
    server: Child,
}

impl Pebble {
    /// One that looks for what proves a name on these ports of this machine.
    fn start(folder: tempfile::TempDir, listens: u16, (http, https): (u16, u16)) -> Self {
        let (management, resolver, control) = (free_port(), free_port(), free_port());
        let path = |name: &str| folder.path().join(name);
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listens}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": path("own.crt"), "privateKey": path("own.key"),
            "httpPort": http, "tlsPort": https,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        std::fs::write(path("settings.json"), settings.to_string()).unwrap();
        let spawn = |command: &mut Command, log: &str| {
            let log = std::fs::File::create(path(log)).unwrap();
            let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command.spawn().expect("pebble is installed; scripts/test does it")
        };
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{resolver}"), "-management", &format!("127.0.0.1:{control}")]);
        let mut server = Command::new("pebble");
        server.arg("-config").arg(path("settings.json")).args(["-dnsserver", &format!("127.0.0.1:{resolver}")]);
        server.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")]);
        let (names, server) = (spawn(&mut names, "names.log"), spawn(&mut server, "pebble.log"));
        Self { folder, management, names, server }
    }

    /// Saves the root certificate of the CA that issues Caddy's certificates; polls pebble until it answers.
    async fn keep_root(&self) {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let fetch = async || {
            let mut curl = Command::new("curl");
            curl.args(["-sSf", "--max-time", "5", "--cacert"]).arg(self.own()).arg(&url);
            let answer = curl.output().unwrap();
            answer.status.success().then_some(answer.stdout)
        };
        let root = Wait::within(PATIENCE).every(Duration::from_millis(100)).value(fetch).await;
        let root = root.unwrap_or_else(|| panic!("pebble does not answer:\n{}", self.log()));
        std::fs::write(self.root(), root).unwrap();
    }

    /// The certificate it shows itself.
    fn own(&self) -> PathBuf {
        self.folder.path().join("own.crt")
    }

    /// The root of those it gives.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    /// What it did so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in [&mut self.names, &mut self.server] {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the end of what pebble said\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// Caddy in front of the platform fixture, with certificates from its own pebble.
pub async fn front(platform: &FakePlatform) -> (Pebble, CaddyProxy) {
    let folder = tempfile::tempdir().unwrap();
    let (key, own) = (folder.path().join("own.key"), folder.path().join("own.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=pebble", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(&own)
        .output()
        .expect("openssl is installed; scripts/test does it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let listens = free_port();
    let directory = format!("https://127.0.0.1:{listens}/dir");
    let settings = [
        ("BERTH_TLS_ISSUER", "acme".to_owned()),
        ("BERTH_ACME_DIRECTORY", directory),
        // As if this machine trusted it.
        ("SSL_CERT_FILE", own.display().to_string()),
    ];
    let front = CaddyProxy::start(platform, &settings);
    let pebble = Pebble::start(folder, listens, (front.http, front.https));
    pebble.keep_root().await;
    front.until_ready(&pebble.root()).await;
    (pebble, front)
}
