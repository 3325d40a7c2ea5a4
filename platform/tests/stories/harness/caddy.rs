//! Real Caddy in front of a town: the repository's own Caddyfile, TLS by a CA of its own, and Berth's answers to its `ask`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::town::Town;

/// How long Caddy may take to stand, CA and all.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Caddy {
    pub port: u16,
    process: Child,
    folder: tempfile::TempDir,
}

impl Caddy {
    /// A port for [`Caddy::before`], and the setting that tells it to a town.
    pub fn port() -> (u16, (&'static str, &'static str)) {
        let port = free_port();
        // A town keeps its settings for its next start, and there are as many of these as stories.
        (port, ("BERTH_HTTPS_PORT", port.to_string().leak()))
    }

    /// Stands before `town`, whose setting is of this `port`.
    pub async fn before(town: &Town, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("caddy")).unwrap();
        let asked = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let internal = asked.local_addr().unwrap().to_string();
        let ask = Router::new().route("/ask", get(berth::edge::ask)).with_state(town.app.clone());
        tokio::spawn(async move { axum::serve(asked, ask).await });
        let caddyfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../caddy/Caddyfile");
        let process = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(caddyfile)
            .env("HOME", folder.path())
            .env("BERTH_DATA_DIR", folder.path())
            .env("BERTH_HTTPS_PORT", port.to_string())
            .env("BERTH_HTTP_PORT", free_port().to_string())
            .env("BERTH_LISTEN", town.address.to_string())
            .env("BERTH_INTERNAL_LISTEN", internal)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("caddy is installed; scripts/test does it");
        let caddy = Self { port, process, folder };
        let stands = async {
            while !caddy.authority().exists() || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, stands).await.is_err() {
            panic!("Caddy does not stand: {}", std::fs::read_to_string(caddy.folder.path().join("log")).unwrap());
        }
        caddy
    }

    /// The certificate of its CA.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("caddy/pki/authorities/local/root.crt")
    }

    /// `https://HOST:PORT`.
    pub fn origin(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// curl's words for reaching `host` here, trusting this CA alone.
    pub fn curl(&self, host: &str) -> Vec<String> {
        let authority = self.authority().display().to_string();
        let resolve = format!("{host}:{}:127.0.0.1", self.port);
        ["-sS", "--cacert", &authority, "--resolve", &resolve].map(str::to_owned).to_vec()
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
