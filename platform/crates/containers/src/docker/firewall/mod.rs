//! The egress firewall: an nftables table of our own, independent of the Engine's rules.
//!
//! Instances may reach the internet, the quota proxy on their bridge's address, and the host's name servers; nothing
//! else of this host, its networks or each other. In nftables a drop in any table is final, so an accept in a table of
//! the Engine or the operator cannot weaken it.

mod ruleset;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) use self::ruleset::{BridgeInterface, EgressPolicy, name_servers};
use crate::HostError;

/// The paths of nft in the distributions. PATH is not searched: the provisioner runs the program as root.
const NFT_PATHS: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"];
/// Timeout of nft; a table of a hundred lines takes milliseconds.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);

/// The table, and its listing right after the last installation.
pub(super) struct Firewall {
    table: String,
    program: Option<PathBuf>,
    installed: Mutex<Option<InstalledRules>>,
}

/// The rules as written, and as nft lists them. Both are kept, because versions of nft list the same rules differently.
struct InstalledRules {
    rules: String,
    listing: String,
}

impl Firewall {
    /// The table of the installation `network`, installed by `program`, or else by the host's nft.
    pub(super) fn new(network: &str, program: Option<PathBuf>) -> Self {
        let program = program.or_else(|| NFT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()));
        // The prefix is needed because a table's name must begin with a letter and be no keyword, unlike BERTH_NETWORK.
        Self { table: format!("instances-{network}"), program, installed: Mutex::default() }
    }

    /// Installs the table atomically, unless it is unchanged since the last time: replacing it would reset its
    /// connection counts.
    pub(super) async fn ensure(&self, policy: &EgressPolicy) -> Result<(), HostError> {
        let rules = ruleset::write(&self.table, policy);
        let mut installed = self.installed.lock().await;
        if let Some(before) = installed.as_ref().filter(|before| before.rules == rules)
            && self.list().await.as_ref() == Ok(&before.listing)
        {
            return Ok(());
        }
        // Fails closed: cleared before the attempt. If that fails halfway, `is_effective` must not report the old
        // state.
        *installed = None;
        let done = async {
            self.nft(&["-f", "-"], &rules).await?;
            self.list().await
        };
        let listing = done.await.map_err(HostError::Refused)?;
        tracing::info!(table = self.table, "set the rules for what instances may reach");
        *installed = Some(InstalledRules { rules, listing });
        Ok(())
    }

    /// Whether the table is unchanged since it was installed.
    ///
    /// # Errors
    /// A sentence with the reason why it is not.
    pub(super) async fn is_effective(&self) -> Result<(), String> {
        let installed = self.installed.lock().await;
        let listing = self.list().await?;
        match installed.as_ref() {
            Some(rules) if rules.listing == listing => Ok(()),
            Some(_) => Err(format!("the nftables table {} was changed by another program", self.table)),
            None => Err(format!("the provisioner has not set the nftables table {}; its log says why", self.table)),
        }
    }

    /// The table's listing without counters and set elements, which change with traffic.
    async fn list(&self) -> Result<String, String> {
        self.nft(&["--stateless", "--terse", "list", "table", "inet", &self.table], "").await
    }

    async fn nft(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let program = self.program.as_deref().ok_or_else(|| {
            "nft is not on this host, so nothing would keep instances from its networks; install the package nftables"
                .to_owned()
        })?;
        match timeout(NFT_TIMEOUT, run(program, arguments, input)).await {
            Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(Ok(output)) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let reason = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
                Err(format!(
                    "nft did not take the table {} ({reason}); it needs CAP_NET_ADMIN in the host's network and a kernel with \
                     nf_tables",
                    self.table
                ))
            }
            Ok(Err(error)) => Err(format!("{} cannot be run: {error}", program.display())),
            Err(_) => Err(format!("nft did not end within {} s", NFT_TIMEOUT.as_secs())),
        }
    }
}

async fn run(program: &Path, arguments: &[&str], input: &str) -> std::io::Result<std::process::Output> {
    // The caller's timeout drops this future, which kills the child.
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        // If nft exits without reading its input, its standard error tells the reason, so a broken pipe is not an error
        // here.
        && let Err(error) = stdin.write_all(input.as_bytes()).await
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    child.wait_with_output().await
}
