//! The proxies under test: each a process of its own, configured as its documentation recommends.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::berth_role::{BerthAddresses, Visitor};
use super::process::{Process, free_port};

/// All processes of the benchmark. They end when this is dropped.
pub struct BenchSetup {
    /// All proxies. The first is the upstream itself, the baseline.
    pub peers: Vec<ProxyUnderTest>,
    pub berth: BerthProcess,
    pub upstream_port: u16,
    _others: Vec<Process>,
    folder: TempDir,
}

/// A proxy and its address.
#[derive(Clone, Copy)]
pub struct ProxyUnderTest {
    pub name: &'static str,
    pub address: SocketAddr,
}

/// A running platform.
pub struct BerthProcess {
    pub process: Process,
    pub addresses: BerthAddresses,
}

impl BenchSetup {
    pub fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut upstream = start_role("upstream", &[], &folder.path().join("upstream.log"))?;
        let upstream_port = first_line(&mut upstream)?.trim().parse()?;
        let berth = BerthProcess::start(upstream_port, 1, &folder.path().join("berth.log"))?;
        let (nginx, caddy, chp) = (free_port()?, free_port()?, free_port()?);
        let _others = vec![
            upstream,
            start_nginx(folder.path(), nginx, upstream_port)?,
            start_caddy(folder.path(), caddy, upstream_port)?,
            start_chp(folder.path(), chp, upstream_port)?,
        ];
        let on = |name, port| ProxyUnderTest { name, address: (Ipv4Addr::LOCALHOST, port).into() };
        let peers = vec![
            on("direct", upstream_port),
            on("nginx", nginx),
            on("caddy", caddy),
            on("chp", chp),
            ProxyUnderTest { name: "berth", address: berth.addresses.listen },
        ];
        Ok(Self { peers, berth, upstream_port, _others, folder })
    }

    /// The proxies with these names.
    pub fn some(&self, names: &[&str]) -> Vec<ProxyUnderTest> {
        self.peers.iter().filter(|peer| names.contains(&peer.name)).copied().collect()
    }

    /// The visitor that all requests are made as.
    pub fn visitor(&self) -> &Visitor {
        &self.berth.addresses.visitors[0]
    }

    /// Starts another platform, with this many accounts.
    pub fn another_berth(&self, people: usize) -> anyhow::Result<BerthProcess> {
        BerthProcess::start(self.upstream_port, people, &self.folder.path().join("another.log"))
    }

    /// Starts our Caddy configuration with certificates of its own in front of `behind`; also returns its port.
    pub fn our_caddy(&self, name: &str, behind: SocketAddr) -> anyhow::Result<(Process, u16)> {
        let (data, port) = (self.folder.path().join(name), free_port()?);
        std::fs::create_dir_all(data.join("caddy"))?;
        let caddyfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../caddy/Caddyfile");
        let mut caddy = Command::new("caddy");
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(caddyfile).env("HOME", &data);
        caddy.env("BERTH_DATA_DIR", &data).env("BERTH_LISTEN", behind.to_string());
        caddy.env("BERTH_INTERNAL_LISTEN", self.berth.addresses.internal.to_string());
        caddy.env("BERTH_HTTPS_PORT", port.to_string()).env("BERTH_HTTP_PORT", free_port()?.to_string());
        let process =
            Process::start("Caddy", &caddy, &data.join("log"))?.listens((Ipv4Addr::LOCALHOST, port).into())?;
        Ok((process, port))
    }
}

impl BerthProcess {
    fn start(upstream: u16, people: usize, log: &Path) -> anyhow::Result<Self> {
        let words = ["--upstream", &upstream.to_string(), "--people", &people.to_string()];
        let mut process = start_role("berth", &words, log)?;
        let line = first_line(&mut process)?;
        let addresses = serde_json::from_str(&line)
            .with_context(|| format!("Berth did not start: {}", std::fs::read_to_string(log).unwrap_or_default()))?;
        Ok(Self { process, addresses })
    }
}

/// Starts this program again in another role.
fn start_role(role: &'static str, words: &[&str], log: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role]).args(words);
    Process::start(role, &command, log)
}

fn first_line(process: &mut Process) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(process.take_stdout()?).read_line(&mut line)?;
    Ok(line)
}

/// Keep-alive on both sides, one worker per processor, no access log, default buffers.
fn start_nginx(folder: &Path, port: u16, upstream: u16) -> anyhow::Result<Process> {
    let (config, folder) = (folder.join("nginx.conf"), folder.display());
    let text = format!(
        "daemon off;
        user root;
        worker_processes auto;
        pid {folder}/nginx.pid;
        events {{ worker_connections 8192; }}
        http {{
            access_log off;
            keepalive_requests 1000000;
            client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
            fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
            upstream program {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
            server {{
                listen 127.0.0.1:{port} backlog=4096;
                proxy_http_version 1.1;
                proxy_set_header Host $http_host;
                proxy_set_header Connection \"\";
                location / {{ proxy_pass http://program; }}
                location /events {{ proxy_pass http://program; proxy_buffering off; }}
                location /socket {{
                    proxy_pass http://program;
                    proxy_set_header Host $http_host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                }}
            }}
        }}\n"
    );
    std::fs::write(&config, text)?;
    let mut nginx = Command::new("nginx");
    nginx.args(["-e", "stderr", "-c"]).arg(&config);
    started("nginx", &nginx, &config, port)
}

fn start_caddy(folder: &Path, port: u16, upstream: u16) -> anyhow::Result<Process> {
    let config = folder.join("Caddyfile");
    let text = format!(
        "{{\n\tadmin off\n\tauto_https off\n\tlog {{\n\t\toutput discard\n\t}}\n}}\n\
         http://:{port} {{\n\tbind 127.0.0.1\n\treverse_proxy 127.0.0.1:{upstream}\n}}\n"
    );
    std::fs::write(&config, text)?;
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config).env("HOME", folder);
    started("Caddy", &caddy, &config, port)
}

#[expect(clippy::disallowed_methods, reason = "scripts/bench, not the operator, sets this variable")]
fn start_chp(folder: &Path, port: u16, upstream: u16) -> anyhow::Result<Process> {
    let program = std::env::var("BERTH_BENCH_CHP").map(PathBuf::from);
    let program = program.context("run this by scripts/bench edge, which installs configurable-http-proxy")?;
    ensure!(program.exists(), "there is no {}: scripts/bench edge installs configurable-http-proxy", program.display());
    let mut chp = Command::new("node");
    chp.arg(program).args(["--ip", "127.0.0.1", "--port", &port.to_string(), "--api-ip", "127.0.0.1"]);
    chp.args(["--api-port", &free_port()?.to_string(), "--log-level", "error"]);
    chp.args(["--default-target", &format!("http://127.0.0.1:{upstream}")]);
    chp.env("NODE_ENV", "production").env("CONFIGPROXY_AUTH_TOKEN", "nobody asks");
    started("configurable-http-proxy", &chp, &folder.join("chp"), port)
}

fn started(name: &'static str, command: &Command, beside: &Path, port: u16) -> anyhow::Result<Process> {
    Process::start(name, command, &beside.with_extension("log"))?.listens((Ipv4Addr::LOCALHOST, port).into())
}
