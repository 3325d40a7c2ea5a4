//! Network isolation of instances from each other and from the host's networks: bridges, firewall, and the kernel
//! settings on which both depend.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::Docker;
use tokio::sync::Mutex;

use super::firewall::{BridgeInterface, EgressPolicy, Firewall, name_servers};
use super::host_config::bridge_name;
use super::networks;
use crate::config::ContainerConfig;
use crate::{HostError, gateway};

/// `1` if packets between two ports of a bridge pass the same rules as routed packets, which the isolation between
/// neighbours needs (bridge-nf-call-iptables in the kernel's ip-sysctl documentation). The Engine sets it when it
/// creates our bridges.
const BRIDGE_NF_CALL_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The interfaces of our own network namespace. /sys/class/net would show those of the namespace in which /sys was
/// mounted.
const INTERFACES: &str = "/proc/self/net/dev";

/// The bridges and the firewall of one installation.
pub(super) struct NetworkIsolation {
    firewall: Firewall,
    /// Serializes the creation of bridges. Of two concurrent attempts, one would get the error that the subnet is
    /// taken, before it could see that the same bridge had taken it.
    creating: Mutex<()>,
    is_in_force: AtomicBool,
}

impl NetworkIsolation {
    /// `None` for `nft`: the usual paths are searched.
    pub(super) fn new(network: &str, nft: Option<PathBuf>) -> Self {
        Self { firewall: Firewall::new(network, nft), creating: Mutex::default(), is_in_force: AtomicBool::new(false) }
    }

    /// Creates or repairs rules and bridges, and returns the bridges' gateways. The rules come first, so that no bridge
    /// exists without them even for a moment.
    pub(super) async fn ensure(&self, engine: &Docker, config: &ContainerConfig) -> Result<Vec<Ipv4Addr>, HostError> {
        let _creating = self.creating.lock().await;
        // Fails closed: reset first, so that nothing starts while a later step fails.
        self.is_in_force.store(false, Ordering::SeqCst);
        // Bridges from an earlier, larger BERTH_BRIDGES may still have containers, so the rules cover them too.
        let mut bridges = networks::numbers(engine, config).await?;
        bridges.extend(0..u32::from(config.bridges));
        // Rules may name interfaces that do not exist yet.
        self.firewall.ensure(&egress_policy(config, bridges).await).await?;
        let mut gateways = Vec::new();
        for bridge in 0..u32::from(config.bridges) {
            gateways.push(networks::ensure(engine, config, bridge).await?);
        }
        // Order: after the creation of the bridges, because it looks for the first of them.
        check_network_namespace(config).await.map_err(HostError::Refused)?;
        check_bridge_netfilter().await.map_err(HostError::Refused)?;
        self.is_in_force.store(true, Ordering::SeqCst);
        Ok(gateways)
    }

    /// Calls [`NetworkIsolation::ensure`] unless it has succeeded before: nothing starts without isolation.
    pub(super) async fn ensure_once(&self, engine: &Docker, config: &ContainerConfig) -> Result<(), HostError> {
        if self.is_in_force.load(Ordering::SeqCst) { Ok(()) } else { self.ensure(engine, config).await.map(drop) }
    }

    /// Whether the egress rules are in force.
    ///
    /// # Errors
    /// A sentence with the reason why not.
    pub(super) async fn egress(&self, config: &ContainerConfig) -> Result<(), String> {
        check_network_namespace(config).await?;
        self.firewall.is_effective().await
    }

    /// Whether instances are isolated from each other.
    ///
    /// # Errors
    /// A sentence with the reason why not.
    pub(super) async fn between(&self, engine: &Docker, config: &ContainerConfig) -> Result<(), String> {
        check_bridge_netfilter().await?;
        for bridge in 0..u32::from(config.bridges) {
            networks::check(engine, config, bridge).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

async fn egress_policy(config: &ContainerConfig, mut numbers: Vec<u32>) -> EgressPolicy {
    numbers.sort_unstable();
    numbers.dedup();
    let bridge =
        |number| BridgeInterface { name: bridge_name(config, number), gateway: gateway(config.subnet, number) };
    EgressPolicy {
        bridges: numbers.into_iter().map(bridge).collect(),
        quota_port: config.quota_port,
        name_servers: name_servers(&resolv_conf().await),
    }
}

/// The resolv.conf from which the Engine takes the name servers of its containers: the host's, or with systemd's stub
/// resolver the upstream one.
async fn resolv_conf() -> String {
    let own = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    if own.lines().any(|line| line.split_whitespace().eq(["nameserver", "127.0.0.53"])) {
        return tokio::fs::read_to_string("/run/systemd/resolve/resolv.conf").await.unwrap_or(own);
    }
    own
}

/// Checks that this process is in the network namespace of the bridges: rules in another one would have no effect.
async fn check_network_namespace(config: &ContainerConfig) -> Result<(), String> {
    let interfaces = tokio::fs::read_to_string(INTERFACES).await.unwrap_or_default();
    let bridge = bridge_name(config, 0);
    if has_interface(&interfaces, &bridge) {
        return Ok(());
    }
    Err(format!(
        "the bridge {bridge} is not in the provisioner's network, so its rules would have no effect; run it in the \
         host's network (network_mode: host)"
    ))
}

/// Checks that bridged packets pass the firewall.
async fn check_bridge_netfilter() -> Result<(), String> {
    let value = tokio::fs::read_to_string(Path::new(BRIDGE_NF_CALL_IPTABLES)).await.unwrap_or_default();
    if value.trim() == "1" {
        return Ok(());
    }
    Err("neighbours on one bridge could talk to each other: load br_netfilter and set \
         net.bridge.bridge-nf-call-iptables=1 with sysctl"
        .into())
}

/// Whether `/proc/net/dev` lists the interface, as `NAME: numbers`.
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
