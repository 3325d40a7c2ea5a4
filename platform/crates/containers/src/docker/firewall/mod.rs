//! What instances may reach: our own nftables table, which stands beside the Engine's rules and does not depend on them.
//!
//! The internet, the quota proxy on their bridge's own address, and the host's name servers; nothing else of this host,
//! of its networks or of each other. A drop in any table is final, so whatever the Engine or the operator accepts
//! elsewhere takes nothing away from it.

mod ruleset;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) use self::ruleset::{Bridge, Reach, name_servers};
use crate::HostError;

/// Where distributions put nft. Not looked for elsewhere: the provisioner runs what it finds as root.
const PLACES: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"];
/// One table of a hundred lines takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// The table, and what it looked like when we last set it.
pub(super) struct Firewall {
    table: String,
    program: Option<PathBuf>,
    set: Mutex<Option<Set>>,
}

/// What was asked for, and how nft lists it: versions of nft write the same rules in different words.
struct Set {
    rules: String,
    listing: String,
}

impl Firewall {
    /// The table of the installation `network`, set by `program`, or by the host's nft.
    pub(super) fn new(network: &str, program: Option<PathBuf>) -> Self {
        let program = program.or_else(|| PLACES.iter().map(PathBuf::from).find(|place| place.exists()));
        // A name of nft begins with a letter and is none of its words, which BERTH_NETWORK need not heed.
        Self { table: format!("instances-{network}"), program, set: Mutex::default() }
    }

    /// Sets the table in one step, unless it is there just as it was set before: then what it has counted stays.
    pub(super) async fn ensure(&self, reach: &Reach) -> Result<(), HostError> {
        let rules = ruleset::write(&self.table, reach);
        let mut set = self.set.lock().await;
        if let Some(before) = set.as_ref().filter(|before| before.rules == rules)
            && self.list().await.as_ref() == Ok(&before.listing)
        {
            return Ok(());
        }
        *set = None;
        let done = async {
            self.nft(&["-f", "-"], &rules).await?;
            self.list().await
        };
        let listing = done.await.map_err(HostError::Refused)?;
        tracing::info!(table = self.table, "set the rules for what instances may reach");
        *set = Some(Set { rules, listing });
        Ok(())
    }

    /// Whether the table is as it was set.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub(super) async fn is_effective(&self) -> Result<(), String> {
        let set = self.set.lock().await;
        let listing = self.list().await?;
        match set.as_ref() {
            Some(set) if set.listing == listing => Ok(()),
            Some(_) => Err(format!("somebody changed the nftables table {}", self.table)),
            None => Err(format!("the provisioner has not set the nftables table {}; its log says why", self.table)),
        }
    }

    /// The table without what it has counted.
    async fn list(&self) -> Result<String, String> {
        self.nft(&["--stateless", "--terse", "list", "table", "inet", &self.table], "").await
    }

    async fn nft(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let program = self.program.as_deref().ok_or_else(|| {
            "nft is not on this host, so nothing would keep instances from its networks; install the package nftables"
                .to_owned()
        })?;
        match timeout(DEADLINE, run(program, arguments, input)).await {
            Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
                Err(format!(
                    "nft did not take the table {} ({said}); it needs CAP_NET_ADMIN in the host's network and a kernel with \
                     nf_tables",
                    self.table
                ))
            }
            Ok(Err(error)) => Err(format!("{} cannot be run: {error}", program.display())),
            Err(_) => Err(format!("nft did not end within {} s", DEADLINE.as_secs())),
        }
    }
}

async fn run(program: &Path, arguments: &[&str], input: &str) -> std::io::Result<std::process::Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        // A program that ends without reading says why on its standard error.
        && let Err(error) = stdin.write_all(input.as_bytes()).await
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    child.wait_with_output().await
}
