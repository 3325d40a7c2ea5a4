//! What keeps instances from each other and from this host's networks: the bridges, our firewall, and the kernel's part in both.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::Docker;
use tokio::sync::Mutex;

use super::firewall::{Bridge, Firewall, Reach, name_servers};
use super::host_config::bridge_name;
use super::networks;
use crate::config::ContainerConfig;
use crate::{HostError, gateway};

/// `1` where packets between two ports of a bridge pass the same rules as routed ones, which is how neighbours are kept
/// apart (bridge-nf-call-iptables in the kernel's ip-sysctl documentation). The Engine sets it when it makes our bridges.
const BRIDGED_TOO: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The interfaces of our own network namespace, whatever of /sys is mounted here.
const INTERFACES: &str = "/proc/self/net/dev";

pub(super) struct Walls {
    firewall: Firewall,
    /// Held while bridges are made: of two makings at once, one is told that the subnet is taken before it can see
    /// that the taker is the very bridge it wants.
    making: Mutex<()>,
    stand: AtomicBool,
}

impl Walls {
    /// `nft` is looked for in the usual places when it is `None`.
    pub(super) fn new(network: &str, nft: Option<PathBuf>) -> Self {
        Self { firewall: Firewall::new(network, nft), making: Mutex::default(), stand: AtomicBool::new(false) }
    }

    /// Makes or mends everything, and says where the bridges' gateways are. The rules come first, so that there is no
    /// moment in which a bridge has none.
    pub(super) async fn ensure(&self, engine: &Docker, config: &ContainerConfig) -> Result<Vec<Ipv4Addr>, HostError> {
        let _alone = self.making.lock().await;
        self.stand.store(false, Ordering::SeqCst);
        let mut bridges = networks::numbers(engine, config).await?;
        bridges.extend(0..u32::from(config.bridges));
        self.firewall.ensure(&reach(config, bridges).await).await?;
        let mut gateways = Vec::new();
        for bridge in 0..u32::from(config.bridges) {
            gateways.push(networks::ensure(engine, config, bridge).await?);
        }
        is_the_hosts_network(config).await.map_err(HostError::Refused)?;
        passes_bridged_packets().await.map_err(HostError::Refused)?;
        self.stand.store(true, Ordering::SeqCst);
        Ok(gateways)
    }

    /// Makes everything if that has not gone well yet: without walls, nothing is started.
    pub(super) async fn ensure_once(&self, engine: &Docker, config: &ContainerConfig) -> Result<(), HostError> {
        if self.stand.load(Ordering::SeqCst) { Ok(()) } else { self.ensure(engine, config).await.map(drop) }
    }

    /// Whether instances reach only what they may.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub(super) async fn egress(&self, config: &ContainerConfig) -> Result<(), String> {
        is_the_hosts_network(config).await?;
        self.firewall.is_effective().await
    }

    /// Whether neighbours are kept apart.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub(super) async fn between(&self, engine: &Docker, config: &ContainerConfig) -> Result<(), String> {
        passes_bridged_packets().await?;
        for bridge in 0..u32::from(config.bridges) {
            networks::look(engine, config, bridge).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

async fn reach(config: &ContainerConfig, mut numbers: Vec<u32>) -> Reach {
    numbers.sort_unstable();
    numbers.dedup();
    let bridge = |number| Bridge { name: bridge_name(config, number), gateway: gateway(config.subnet, number) };
    Reach {
        bridges: numbers.into_iter().map(bridge).collect(),
        quota_port: config.quota_port,
        name_servers: name_servers(&resolv_conf().await),
    }
}

/// What the Engine gives its containers: the host's own, or what stands behind it where that is systemd's stub.
async fn resolv_conf() -> String {
    let own = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    if own.lines().any(|line| line.split_whitespace().eq(["nameserver", "127.0.0.53"])) {
        return tokio::fs::read_to_string("/run/systemd/resolve/resolv.conf").await.unwrap_or(own);
    }
    own
}

/// Rules set in another network namespace than the bridges' would hold nobody back.
async fn is_the_hosts_network(config: &ContainerConfig) -> Result<(), String> {
    let interfaces = tokio::fs::read_to_string(INTERFACES).await.unwrap_or_default();
    let bridge = bridge_name(config, 0);
    if has_interface(&interfaces, &bridge) {
        return Ok(());
    }
    Err(format!(
        "the bridge {bridge} is not in the provisioner's network, so its rules would hold nobody back; run it in the \
         host's network (network_mode: host)"
    ))
}

async fn passes_bridged_packets() -> Result<(), String> {
    let value = tokio::fs::read_to_string(Path::new(BRIDGED_TOO)).await.unwrap_or_default();
    if value.trim() == "1" {
        return Ok(());
    }
    Err("neighbours on one bridge could talk to each other: load br_netfilter and set \
         net.bridge.bridge-nf-call-iptables=1 with sysctl"
        .into())
}

/// Whether `/proc/net/dev` lists an interface: `NAME: numbers`.
fn has_interface(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.split_once(':').is_some_and(|(interface, _)| interface.trim() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_whole_name() {
        let list = "Inter-|   Receive\n face |bytes    packets\n    lo: 1 2 3\nberth10: 0 0\n  eth0:12 3\n";
        for (name, there) in [("berth10", true), ("berth1", false), ("eth0", true), ("lo", true), ("bytes", false)] {
            assert_eq!(has_interface(list, name), there, "{name}");
        }
    }
}
