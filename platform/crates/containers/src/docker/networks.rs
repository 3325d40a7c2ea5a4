//! The Docker networks of the instances: bridges without inter-container communication (ICC off) that the host can
//! reach.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::Docker;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};

use super::host_config::bridge_name;
use super::{errors, labels};
use crate::config::ContainerConfig;
use crate::{HostError, gateway};

const NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

/// The number of /22 networks in the /16 of BERTH_SUBNET.
const BRIDGES: u32 = 64;

/// Creates bridge number `bridge`, or accepts an existing one with the expected configuration. Returns its gateway.
pub(super) async fn ensure(engine: &Docker, config: &ContainerConfig, bridge: u32) -> Result<Ipv4Addr, HostError> {
    let wanted = request(config, bridge);
    match engine.inspect_network(&wanted.name, None::<InspectNetworkOptions>).await {
        Ok(there) => accept(&there, &wanted)?,
        Err(error) if errors::is_absent(&error) => create(engine, wanted).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(gateway(config.subnet, bridge))
}

/// Checks that bridge number `bridge` has the expected configuration.
pub(super) async fn check(engine: &Docker, config: &ContainerConfig, bridge: u32) -> Result<(), HostError> {
    let wanted = request(config, bridge);
    let there = engine.inspect_network(&wanted.name, None::<InspectNetworkOptions>).await?;
    accept(&there, &wanted)
}

/// The numbers of the existing bridges, including those of an earlier, larger BERTH_BRIDGES.
pub(super) async fn numbers(engine: &Docker, config: &ContainerConfig) -> Result<Vec<u32>, HostError> {
    let ours = ListNetworksOptionsBuilder::default().filters(&labels::filter(&config.network)).build();
    let there = engine.list_networks(Some(ours)).await?;
    let number = |name: String| name.strip_prefix(&config.network)?.parse().ok().filter(|number| *number < BRIDGES);
    Ok(there.into_iter().filter_map(|network| number(network.name?)).collect())
}

fn request(config: &ContainerConfig, bridge: u32) -> NetworkCreateRequest {
    let name = bridge_name(config, bridge);
    let first = Ipv4Addr::from(u32::from(config.subnet) + bridge * 1024);
    NetworkCreateRequest {
        driver: Some("bridge".into()),
        // Instances have no IPv6: every isolation rule would be needed twice.
        enable_ipv6: Some(false),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(format!("{first}/22")),
                gateway: Some(gateway(config.subnet, bridge).to_string()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        options: Some(HashMap::from([
            (NAME.to_owned(), name.clone()),
            (ICC.to_owned(), "false".to_owned()),
            (MASQUERADE.to_owned(), "true".to_owned()),
        ])),
        labels: Some(HashMap::from([(labels::INSTALLATION.to_owned(), config.network.clone())])),
        name,
        ..Default::default()
    }
}

async fn create(engine: &Docker, wanted: NetworkCreateRequest) -> Result<(), HostError> {
    let Err(error) = engine.create_network(wanted.clone()).await else { return Ok(()) };
    // Race: a concurrent call may have created the network meanwhile; it is accepted if it is the same.
    if let Ok(there) = engine.inspect_network(&wanted.name, None::<InspectNetworkOptions>).await {
        return accept(&there, &wanted);
    }
    // The Engine has no status code for this, only its text.
    if error.to_string().contains("overlaps") {
        let (name, subnet) = (&wanted.name, subnet_of(wanted.ipam.as_ref()));
        return Err(HostError::Refused(format!(
            "the bridge {name} needs {subnet}, which another Docker network uses already; set BERTH_SUBNET to a free range"
        )));
    }
    Err(error.into())
}

/// Refuses an existing network of our name with another configuration: its containers might reach each other.
fn accept(there: &NetworkInspect, wanted: &NetworkCreateRequest) -> Result<(), HostError> {
    let name = &wanted.name;
    let (has, needs) = (subnet_of(there.ipam.as_ref()), subnet_of(wanted.ipam.as_ref()));
    if has != needs {
        return Err(HostError::Refused(format!(
            "there is a Docker network {name} already, with {has} instead of {needs}; set BERTH_SUBNET to match it, \
             choose another BERTH_NETWORK, or remove that network"
        )));
    }
    let has = |option: &str| there.options.as_ref().and_then(|o| o.get(option));
    let differs = |option: &&str| has(option) != wanted.options.as_ref().and_then(|o| o.get(*option));
    // The options on which isolation and routing depend; the Engine may add others.
    if let Some(option) = [NAME, ICC, MASQUERADE].iter().find(|o| differs(o)) {
        return Err(HostError::Refused(format!(
            "there is a Docker network {name} already, whose {option} is not what instances need; remove it or choose \
             another BERTH_NETWORK"
        )));
    }
    if there.driver != wanted.driver || there.enable_ipv6 == Some(true) {
        return Err(HostError::Refused(format!(
            "there is a Docker network {name} already, which is not a bridge for IPv4 only; remove it or choose another \
             BERTH_NETWORK"
        )));
    }
    Ok(())
}

fn subnet_of(ipam: Option<&Ipam>) -> String {
    let configs = ipam.and_then(|ipam| ipam.config.as_ref());
    let subnets: Vec<&str> = configs.into_iter().flatten().filter_map(|c| c.subnet.as_deref()).collect();
    if subnets.is_empty() { "no subnet".to_owned() } else { subnets.join(" and ") }
}
