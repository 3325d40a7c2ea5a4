//! A fixture that runs Debian's Caddy with Berth's Caddyfile in front of a [`FakePlatform`], on its own ports and data,
//! and a TLS client that sends it raw bytes.

pub mod pebble;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::deployed_stack::root;
use crate::fake_platform::FakePlatform;
use crate::wait::Wait;

/// How long Caddy may take to start, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where visitors come from: not Caddy's own address, which is what the platform takes one for that says nothing.
pub const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

pub struct CaddyProxy {
    pub https: u16,
    pub http: u16,
    caddy: Child,
    folder: tempfile::TempDir,
}

impl CaddyProxy {
    /// With its own CA.
    pub async fn of(platform: &FakePlatform) -> Self {
        let front = Self::start(platform, &[]);
        front.until_ready(&front.own_authority()).await;
        front
    }

    /// The setting that tells the platform the HTTPS port of its Caddy, for tests in which its pages must link to it.
    pub fn own_port() -> (&'static str, &'static str) {
        // Leaked because the fixture keeps its settings for a restart; there is at most one of these per test.
        ("BERTH_HTTPS_PORT", free_port().to_string().leak())
    }

    /// With settings that Caddy reads on top of those it needs here. It may not listen yet.
    pub fn start(platform: &FakePlatform, settings: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = platform.app.config.hosts.port.strip_prefix(':').map(|port| port.parse().unwrap());
        let (https, http) = (told.unwrap_or_else(free_port), free_port());
        let data = folder.path();
        // The socket by which it is told things lies there.
        std::fs::create_dir_all(data.join("caddy")).unwrap();
        let log = std::fs::File::create(data.join("log")).unwrap();
        let caddy = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(root().join("caddy/Caddyfile"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs([("HOME", data), ("XDG_DATA_HOME", data), ("XDG_CONFIG_HOME", data), ("BERTH_DATA_DIR", data)])
            .env("BERTH_DOMAIN", "example.com")
            .env("BERTH_HTTPS_PORT", https.to_string())
            .env("BERTH_HTTP_PORT", http.to_string())
            .env("BERTH_LISTEN", platform.address.to_string())
            .env("BERTH_INTERNAL_LISTEN", platform.internal.to_string())
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("caddy is installed; scripts/test does it");
        Self { https, http, caddy, folder }
    }

    /// The certificate of Caddy's own CA.
    pub fn own_authority(&self) -> PathBuf {
        self.folder.path().join("caddy/pki/authorities/local/root.crt")
    }

    /// `https://HOST:PORT`.
    pub fn origin(&self, host: &str) -> String {
        format!("https://{host}:{}", self.https)
    }

    /// curl's words for reaching `host` here, trusting its own CA alone.
    pub fn curl(&self, host: &str) -> Vec<String> {
        let authority = self.own_authority().display().to_string();
        let resolve = format!("{host}:{}:127.0.0.1", self.https);
        ["-sS", "--cacert", &authority, "--resolve", &resolve].map(str::to_owned).to_vec()
    }

    /// What Caddy said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until Caddy serves the app host with a certificate from the CA; `authority` is the file with the CA's
    /// certificate.
    pub async fn until_ready(&self, authority: &std::path::Path) {
        let is_ready =
            async || authority.exists() && self.connect(authority, "app.example.com", &[b"http/1.1"]).await.is_ok();
        let wait = Wait::within(PATIENCE).every(Duration::from_millis(50));
        assert!(wait.succeeds(is_ready).await, "Caddy is not ready:\n{}", self.log());
    }

    /// A connection to that host, which must show a certificate of that CA.
    pub async fn connect(
        &self,
        authority: &std::path::Path,
        host: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut trusted = rustls::RootCertStore::empty();
        // Race: Caddy creates the file before it writes the certificate, so the file may be empty for a moment.
        let certificate = CertificateDer::from_pem_file(authority).map_err(std::io::Error::other)?;
        trusted.add(certificate).unwrap();
        // By name: other libraries in this binary may choose another for the whole process.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(trusted).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((VISITOR, 0)))?;
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.https))).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

impl Drop for CaddyProxy {
    fn drop(&mut self) {
        let _ = self.caddy.kill();
        let _ = self.caddy.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the end of what Caddy said\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// A port without a listener. It is below the kernel's ephemeral range, so that no outgoing connection takes it
/// meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 100).unwrap();
    loop {
        let port = 20_000 + process * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
