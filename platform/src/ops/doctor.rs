//! Looks at everything Berth stands on and says in a sentence what is not as it should be. Changes nothing.

mod host;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::certificates::{self, BudgetUsage};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::containers::{ContainerHost, gateway};
use crate::db::Db;
use crate::quota;

const TRY: Duration = Duration::from_secs(3);

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What was found and, unless it is fine, what to do.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Works, but less well or less safely than it could.
    Warning,
    /// Does not work.
    Broken,
}

/// Share of a week's certificates from which on it is time for a wildcard, in percent.
const CERTIFICATES_WARN_PERCENT: u64 = 80;

/// Examines database, books, certificates, provisioner, host, images and listeners.
pub async fn examine(
    config: &Config,
    db: anyhow::Result<Db>,
    host: &dyn ContainerHost,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = of_database(config, db, now).await;
    match host.host_report().await {
        Ok(report) => {
            findings.push(fine("provisioner", format!("answers; Docker Engine {}", report.engine_version)));
            findings.extend(host::examine(&report, config));
        }
        Err(error) => findings.push(broken(
            "provisioner",
            format!("{error}. Start berth-provisioner (socket {})", config.containers.socket.display()),
        )),
    }
    findings.push(listener("platform", config.listen, "berth serve").await);
    findings.push(listener("certificates", config.internal_listen, "berth serve").await);
    for bridge in 0..u32::from(config.containers.bridges) {
        findings.push(quota_proxy(gateway(config.containers.subnet, bridge), config.quota_port).await);
    }
    if config.anthropic.keys.is_empty() || config.openai.keys.is_empty() {
        findings.push(warning(
            "provider keys",
            "the demo model answers where ANTHROPIC_API_KEY or OPENAI_API_KEY is not set".into(),
        ));
        findings.push(listener("demo model", config.demo_listen, "berth demo-upstream").await);
    }
    findings
}

async fn of_database(config: &Config, db: anyhow::Result<Db>, now: Timestamp) -> Vec<Finding> {
    let db = match db {
        Ok(db) => db,
        Err(error) => {
            return vec![broken("database", format!("{error:#}. Check BERTH_DATA_DIR and DATABASE_URL."))];
        }
    };
    if let Err(error) = db.ping().await {
        return vec![broken("database", error.to_string())];
    }
    let mut findings = vec![fine("database", "answers, schema up to date".into())];
    match quota::disagreements(&db).await {
        Ok(wrong) if wrong.is_empty() => findings.push(fine("money", "the books agree".into())),
        Ok(wrong) => findings.extend(wrong.into_iter().map(|sentence| broken("money", sentence))),
        Err(error) => findings.push(broken("money", error.to_string())),
    }
    if let Some(weekly) = config.certificates_a_week {
        findings.push(match certificates::usage(&db, weekly, now).await {
            Ok(spent) => of_certificates(spent),
            Err(error) => broken("new addresses", error.to_string()),
        });
    }
    findings
}

fn of_certificates(BudgetUsage { names, weekly }: BudgetUsage) -> Finding {
    let wildcard = "One wildcard certificate is good for all: BERTH_DNS_PROVIDER, see caddy/Caddyfile.wildcard.";
    let waiting = names.saturating_sub(weekly.get());
    let spent = format!("{} of {weekly} first certificates of this week are spent", names - waiting);
    let share = u64::from(names) * 100 / u64::from(weekly.get());
    if share >= 100 {
        warning("new addresses", format!("{spent}, and {waiting} names wait for theirs. {wildcard}"))
    } else if share >= CERTIFICATES_WARN_PERCENT {
        warning("new addresses", format!("{spent}; then new names wait. {wildcard}"))
    } else {
        fine("new addresses", spent)
    }
}

async fn quota_proxy(gateway: Ipv4Addr, port: u16) -> Finding {
    let address = SocketAddr::from((gateway, port));
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => fine("quota proxy", format!("listens on {address}")),
        _ => broken(
            "quota proxy",
            format!(
                "nothing listens on {address}, so instances there make no AI calls. berth serve does once the \
                 provisioner has made the bridge; when another program has the port, set BERTH_QUOTA_PORT."
            ),
        ),
    }
}

async fn listener(subject: &'static str, address: SocketAddr, command: &str) -> Finding {
    match timeout(TRY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => fine(subject, format!("listens on {address}")),
        _ => broken(subject, format!("nothing listens on {address}. Start it with: {command}")),
    }
}

fn fine(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Fine, subject, sentence }
}

fn warning(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Warning, subject, sentence }
}

fn broken(subject: &'static str, sentence: String) -> Finding {
    Finding { verdict: Verdict::Broken, subject, sentence }
}
