//! The doctor: health checks of every dependency of Berth, each with a sentence and a remedy. Changes nothing.

mod host;
mod open_files;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use berth_containers::{ContainerHost, gateway};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::db::Db;
use crate::modules::{Finding, Modules};
use crate::ops::secret_check::examine_secret;

const TRY: Duration = Duration::from_secs(3);

/// An opened database, and the modules built on it.
pub struct Opened {
    pub db: Db,
    pub modules: Result<Modules, StartFailure>,
}

/// Why the platform cannot be built on the database.
pub struct StartFailure {
    pub error: anyhow::Error,
    /// The results of the checks that need the database alone.
    pub findings: Vec<Finding>,
}

/// Examines database, secret, books, certificates, provisioner, host, images and listeners.
pub async fn examine(config: &Config, opened: anyhow::Result<Opened>, host: &dyn ContainerHost) -> Vec<Finding> {
    let mut findings = of_database(config, opened).await;
    match host.host_report().await {
        Ok(report) => {
            findings.push(Finding::fine("provisioner", format!("answers; Docker Engine {}", report.engine_version)));
            findings.extend(host::examine(&report, config));
        }
        Err(error) => findings.push(Finding::broken(
            "provisioner",
            format!("{error}. Start berth-provisioner (socket {})", config.containers.socket.display()),
        )),
    }
    findings.push(listener("platform", config.listen, "berth serve").await);
    findings.extend(open_files::examine(&config.control_socket()).await);
    findings.push(listener("certificates", config.internal_listen, "berth serve").await);
    for bridge in 0..u32::from(config.containers.bridges) {
        findings.push(quota_proxy(gateway(config.containers.subnet, bridge), config.quota_port).await);
    }
    if config.anthropic.keys.is_empty() || config.openai.keys.is_empty() {
        findings.push(Finding::warning(
            "provider keys",
            "the demo model answers where ANTHROPIC_API_KEY or OPENAI_API_KEY is not set".into(),
        ));
        findings.push(listener("demo model", config.demo_listen, "berth demo-upstream").await);
    }
    findings
}

async fn of_database(config: &Config, opened: anyhow::Result<Opened>) -> Vec<Finding> {
    let Opened { db, modules } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return vec![Finding::broken("database", format!("{error:#}. Check BERTH_DATA_DIR and DATABASE_URL."))];
        }
    };
    if let Err(error) = db.ping().await {
        return vec![Finding::broken("database", error.to_string())];
    }
    let mut findings = vec![Finding::fine("database", "answers, schema up to date".into())];
    match modules {
        Ok(modules) => {
            findings.push(examine_secret(&db, &modules, &config.secret).await);
            findings.extend(modules.doctor_findings().await);
        }
        Err(StartFailure { error, findings: of_database }) => {
            findings.push(Finding::broken("platform", format!("cannot start: {error:#}")));
            findings.extend(of_database);
        }
    }
    findings
}

/// Whether a program accepts connections on a bridge's address. A connect does not tell which program it is.
async fn quota_proxy(gateway: Ipv4Addr, port: u16) -> Finding {
    let address = SocketAddr::from((gateway, port));
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::fine("quota proxy", format!("listens on {address}")),
        _ => Finding::broken(
            "quota proxy",
            format!(
                "nothing listens on {address}, so instances on that bridge cannot make AI calls. berth serve listens once the \
                 provisioner has created the bridge; if another program uses the port, set BERTH_QUOTA_PORT."
            ),
        ),
    }
}

/// Whether a program accepts connections on `address`; `command` is the remedy.
async fn listener(subject: &'static str, address: SocketAddr, command: &str) -> Finding {
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::fine(subject, format!("listens on {address}")),
        _ => Finding::broken(subject, format!("nothing listens on {address}. Start it with: {command}")),
    }
}
