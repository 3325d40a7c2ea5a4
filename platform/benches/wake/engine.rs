//! The Docker Engine without Berth: the floor under every wake.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::clock::{Clock, Timestamp};
use bollard::Docker;
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
};
use futures_util::TryStreamExt as _;

use super::bench_platform::NETWORK;

pub const SOCKET: &str = "/var/run/docker.sock";

pub struct Engine(Docker);

impl Engine {
    pub fn connect() -> anyhow::Result<Self> {
        Ok(Self(Docker::connect_with_socket(SOCKET, 60, bollard::API_DEFAULT_VERSION)?))
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

    /// In which order containers were started since then, by the Engine's own account.
    pub async fn order_of_starts(&self, since: Timestamp) -> anyhow::Result<Vec<String>> {
        let label = format!("berth.installation={NETWORK}");
        let filters = HashMap::from([("label", vec![label.as_str()]), ("event", vec!["start"])]);
        let moment = |at: Timestamp| format!("{}.{:03}", at.seconds(), at.0.rem_euclid(1000));
        let (since, until) = (moment(since), moment(Clock::system().now()));
        let options = EventsOptionsBuilder::default().since(&since).until(&until).filters(&filters).build();
        let events: Vec<_> = self.0.events(Some(options)).try_collect().await?;
        Ok(events.into_iter().filter_map(|event| event.actor?.id).collect())
    }

    /// What the container's cgroup holds in memory, in bytes, by the kernel's account.
    pub async fn resident_bytes(&self, container: &str) -> anyhow::Result<u64> {
        let there = self.0.inspect_container(container, None::<InspectContainerOptions>).await?;
        let pid = there.state.and_then(|state| state.pid).context("it has no process")?;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path = |mark: &str| cgroups.lines().find_map(|line| line.split_once(mark).map(|(_, path)| path));
        let file = match (path(":memory:"), path("0::")) {
            (Some(path), _) => format!("/sys/fs/cgroup/memory{path}/memory.usage_in_bytes"),
            (None, Some(path)) => format!("/sys/fs/cgroup{path}/memory.current"),
            (None, None) => anyhow::bail!("no cgroup counts its memory"),
        };
        Ok(std::fs::read_to_string(file)?.trim().parse()?)
    }

    /// Waits until a frozen container's memory has been handed back: until it goes down no more.
    pub async fn handed_back(&self, container: &str) -> anyhow::Result<u64> {
        let (mut least, mut same) = (u64::MAX, 0);
        for _ in 0..600 {
            let now = self.resident_bytes(container).await?;
            same = if now < least { 0 } else { same + 1 };
            least = least.min(now);
            if same > 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(least)
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
