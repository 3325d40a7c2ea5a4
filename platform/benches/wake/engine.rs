//! The Docker Engine without Berth: the floor under every wake.

use std::collections::HashMap;

use berth::clock::{Clock, Timestamp};
use bollard::Docker;
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
};
use futures_util::TryStreamExt as _;

use super::house::NETWORK;

pub struct Engine(Docker);

impl Engine {
    pub fn connect() -> anyhow::Result<Self> {
        Ok(Self(Docker::connect_with_socket("/var/run/docker.sock", 60, bollard::API_DEFAULT_VERSION)?))
    }

    pub async fn unpause(&self, container: &str) -> anyhow::Result<()> {
        Ok(self.0.unpause_container(container).await?)
    }

    pub async fn start(&self, container: &str) -> anyhow::Result<()> {
        Ok(self.0.start_container(container, None::<StartContainerOptions>).await?)
    }

    /// How often the container was started since then, by the Engine's own account.
    pub async fn starts(&self, container: &str, since: Timestamp) -> anyhow::Result<usize> {
        let filters = HashMap::from([("container", vec![container]), ("event", vec!["start"])]);
        let moment = |at: Timestamp| format!("{}.{:03}", at.seconds(), at.0.rem_euclid(1000));
        let (since, until) = (moment(since), moment(Clock::system().now()));
        let options = EventsOptionsBuilder::default().since(&since).until(&until).filters(&filters).build();
        Ok(self.0.events(Some(options)).try_fold(0, async |count, _| Ok(count + 1)).await?)
    }

    /// Removes what this bench, or a run of it that was killed, left behind.
    pub async fn sweep(&self) -> anyhow::Result<()> {
        let label = format!("berth.installation={NETWORK}");
        let ours = HashMap::from([("label", vec![label.as_str()])]);
        let containers = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
        for container in self.0.list_containers(Some(containers)).await? {
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            self.0.remove_container(&container.id.unwrap_or_default(), Some(force)).await?;
        }
        let volumes = ListVolumesOptionsBuilder::default().filters(&ours).build();
        for volume in self.0.list_volumes(Some(volumes)).await?.volumes.unwrap_or_default() {
            self.0.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await?;
        }
        let networks = ListNetworksOptionsBuilder::default().filters(&ours).build();
        for network in self.0.list_networks(Some(networks)).await? {
            self.0.remove_network(&network.id.unwrap_or_default()).await?;
        }
        Ok(())
    }
}
