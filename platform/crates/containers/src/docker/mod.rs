//! The container host on a Docker Engine: the only module that uses bollard, and the only one that decides a tenant's
//! privileges.
//!
//! bollard's own timeout covers only response headers, so each verb has a timeout around all of its calls. Names are
//! deterministic and labels hold the rest: this module is stateless, and the Engine can restore all of its knowledge.

mod disks;
mod drift;
mod errors;
mod file_systems;
mod firewall;
mod host_config;
mod inspection;
mod labels;
mod load;
mod network_isolation;
mod networks;
mod observation;
mod reclaim;
mod report;
mod tombstones;
mod volume_folder;
mod volume_owner;
mod volumes;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use berth_ground::clock::Clock;
use berth_ground::ids::InstanceId;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, SystemInfoCgroupDriverEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::errors::within;
use self::inspection::{CONCURRENT_INSPECTIONS, InspectedContainer};
use self::network_isolation::NetworkIsolation;
use super::{ContainerHost, ContainerSpec, ContainerState, HostError, HostLoad, HostReport, ObservedInstance};
use crate::config::{ContainerConfig, ContainerRuntime, InstanceSize};

/// Timeout of verbs that only read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of verbs that change something.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The Engine's events of a container that may change the state of its instance.
const EVENTS: [&str; 7] = ["create", "start", "pause", "unpause", "oom", "die", "destroy"];

/// The Docker Engine of this machine.
pub struct DockerHost {
    config: ContainerConfig,
    clock: Clock,
    socket: PathBuf,
    engine: OnceLock<Docker>,
    cgroup_parent: OnceCell<&'static str>,
    isolation: NetworkIsolation,
    reclaimer: reclaim::MemoryReclaimer,
    volumes: volumes::Volumes,
}

impl DockerHost {
    /// The Engine on its default socket. Connections are made lazily, so the Engine may start later and restart at any
    /// time. Memory is reclaimed by a child process of this same program: its command line must accept `reclaim --file
    /// FILE --bytes BYTES` and perform the provisioner's `reclaim`.
    #[must_use]
    pub fn connect(config: ContainerConfig, clock: Clock) -> Self {
        Self::connect_with(config, clock, "/var/run/docker.sock".into(), "/proc/self/exe".into())
    }

    /// The Engine on `socket`, with `reclaimer` as the program that reclaims memory.
    #[must_use]
    pub fn connect_with(config: ContainerConfig, clock: Clock, socket: PathBuf, reclaimer: PathBuf) -> Self {
        let isolation = NetworkIsolation::new(&config.network, None);
        Self {
            volumes: volumes::Volumes::new(&config, clock.clone()),
            config,
            reclaimer: reclaim::MemoryReclaimer::new(reclaimer, clock.clone()),
            clock,
            socket,
            engine: OnceLock::new(),
            cgroup_parent: OnceCell::new(),
            isolation,
        }
    }

    /// The same host with `nft` as the program that installs the firewall rules.
    #[must_use]
    pub fn with_nft(mut self, nft: PathBuf) -> Self {
        self.isolation = NetworkIsolation::new(&self.config.network, Some(nft));
        self
    }

    /// Opens the folder of the volumes' files, and removes the device links that a killed provisioner left in it. For
    /// the start of the provisioner: later calls use the folder that was opened here.
    ///
    /// # Errors
    /// When another user than the provisioner's could replace the folder.
    pub fn open_volumes(&self) -> Result<(), HostError> {
        self.volumes.open()
    }

    /// The client. Connecting needs no timeout of its own: a local socket connects or refuses immediately.
    fn engine(&self) -> Result<&Docker, HostError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let socket = self.socket.to_str().ok_or(HostError::Unreachable)?;
        let engine = Docker::connect_with_socket(socket, CHANGE_TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)?;
        // Race: of two concurrent first calls, one drops its client unused.
        Ok(self.engine.get_or_init(|| engine))
    }

    /// The name of an instance's container, and of its volume.
    fn name(&self, instance: InstanceId) -> String {
        format!("{}-{instance}", self.config.network)
    }

    /// After the Engine returned `refusal`: succeeds if the container already is in the state `wanted` (idempotency).
    async fn accept_if_already(
        &self,
        instance: InstanceId,
        wanted: ContainerState,
        refusal: HostError,
    ) -> Result<(), HostError> {
        // A timeout or a lost connection says nothing about the container; inspecting it would only take more time.
        if !matches!(refusal, HostError::Failed(_)) {
            return Err(refusal);
        }
        match self.inspect_container(instance).await? {
            Some(found) if found.state == wanted => Ok(()),
            Some(_) => Err(refusal),
            None => Err(HostError::NotFound),
        }
    }

    /// After the Engine refused a name in use: a concurrent call is creating that container. Succeeds if its
    /// specification is the same.
    async fn await_concurrent_create(
        &self,
        instance: InstanceId,
        wanted: Option<String>,
        refusal: HostError,
    ) -> Result<(), HostError> {
        // The Engine reserves the name a moment before the container can be inspected, hence the polling.
        for _ in 0..20 {
            match self.inspect_container(instance).await? {
                Some(found) if found.spec_hash == wanted => return Ok(()),
                Some(_) => return Err(refusal),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(refusal)
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), HostError> {
        // gVisor does not kill a paused container, and the Engine waits ten seconds for it. A container that was not
        // frozen is not a failure.
        if self.config.runtime == ContainerRuntime::Runsc
            && let Err(error) = self.engine()?.unpause_container(&self.name(instance)).await
        {
            tracing::debug!("not thawed before its removal: {error}");
        }
        // `v` removes the anonymous volumes that the image declares. Our volume has a name and stays.
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.engine()?.remove_container(&self.name(instance), Some(options)).await {
            Err(error) if !errors::is_absent(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The create request for `spec`. Its image is one of the allowed images on this host or, for a rollback, the image
    /// from which the container `there` was upgraded.
    async fn body(
        &self,
        spec: &ContainerSpec,
        there: Option<&InspectedContainer>,
    ) -> Result<ContainerCreateBody, HostError> {
        let size = self.size(&spec.size)?;
        if !self.config.images.contains(&spec.image) {
            return Err(HostError::Refused(format!("the image {} is not in BERTH_IMAGES", spec.image)));
        }
        if spec.slot.bridge() >= u32::from(self.config.bridges) {
            return Err(HostError::Refused(format!("slot {} is past the last of the BERTH_BRIDGES", spec.slot.0)));
        }
        let before = there.and_then(|found| found.image_before.as_deref());
        let there_now = there.map(|found| found.marks.image_id.as_str());
        // Only an image that this container runs or ran: otherwise an id would bypass BERTH_IMAGES.
        if let Some(id) = spec.image_id.as_deref()
            && ![before, there_now].contains(&Some(id))
        {
            return Err(HostError::Refused("an image by its id is for going back from an upgrade only".into()));
        }
        let name = spec.image_id.as_ref().unwrap_or(&spec.image);
        let image = self.image_id(name).await?.ok_or_else(|| HostError::ImageMissing(spec.image.clone()))?;
        // A rollback may use an image that the pin no longer allows: it was allowed when it was installed.
        if spec.image_id.is_none() && self.config.is_pinned_otherwise(&spec.image, &image) {
            return Err(HostError::Refused(format!(
                "the image {} is {image} here, which is not the one that BERTH_IMAGES pins",
                spec.image
            )));
        }
        let parent = self.cgroup_parent().await?;
        Ok(host_config::body(&self.config, spec, size, &image, parent, &self.name(spec.instance)))
    }

    fn size(&self, name: &str) -> Result<&InstanceSize, HostError> {
        self.config.size(name).ok_or_else(|| HostError::Refused(format!("the size {name} is not in BERTH_SIZES")))
    }

    /// The parent cgroup of all tenants, on which the operator can limit their sum. Its notation depends on the cgroup
    /// driver.
    async fn cgroup_parent(&self) -> Result<&'static str, HostError> {
        let ask = || async {
            let driver = self.engine()?.info().await?.cgroup_driver;
            Ok(if driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD) { "berth.slice" } else { "/berth" })
        };
        self.cgroup_parent.get_or_try_init(ask).await.copied()
    }
}

#[async_trait]
impl ContainerHost for DockerHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        within(CHANGE_TIMEOUT, async { self.isolation.ensure(self.engine()?, &self.config).await }).await
    }

    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            let mib = self.size(size)?.disk_mib;
            self.volumes.ensure(self.engine()?, instance, &self.name(instance), mib).await
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            let name = self.name(spec.instance);
            let there = self.inspect_container(spec.instance).await?;
            let mut body = self.body(spec, there.as_ref()).await?;
            let labels = body.labels.get_or_insert_default();
            let wanted = labels.get(labels::SPEC_HASH).cloned();
            // Order: after the hash, because the same container at another time must have the same hash.
            labels.insert(labels::MADE_AT.into(), self.clock.now().0.to_string());
            if let Some(found) = there {
                if found.spec_hash == wanted {
                    return Ok(());
                }
                // Order: before the old container is removed. A refusal afterwards would leave the instance without a
                // container.
                self.volumes.refuse_unless_usable(self.engine()?, &name).await?;
                labels.insert(labels::IMAGE_BEFORE.into(), found.marks.image_id);
                self.reclaimer.cancel(spec.instance);
                self.remove(spec.instance).await?;
            }
            self.ensure_volume(spec.instance, &spec.size).await?;
            // Attached already here: when the Engine creates the container, it copies the image's files at the mount
            // point into an empty volume.
            let _attached = self.volumes.attach(self.engine()?, spec.instance, &name).await?;
            let options = CreateContainerOptionsBuilder::default().name(&name).build();
            match self.engine()?.create_container(Some(options), body).await {
                Ok(_) => Ok(()),
                Err(error) if errors::is_conflict(&error) => {
                    self.await_concurrent_create(spec.instance, wanted, error.into()).await
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            let found = self.inspect_container(instance).await?.ok_or(HostError::NotFound)?;
            if found.state != ContainerState::Stopped {
                return Ok(());
            }
            // Fails closed: nothing starts before bridges and firewall rules are in force.
            self.isolation.ensure_once(self.engine()?, &self.config).await?;
            let name = self.name(instance);
            self.volumes.refuse_unless_usable(self.engine()?, &name).await?;
            let _attached = self.volumes.attach(self.engine()?, instance, &name).await?;
            // Here rather than in `create`: the next start repairs a crash between creation and this step.
            if found.never_ran {
                volume_owner::give(self.engine()?, &name, self.clock.now()).await?;
            }
            Ok(self.engine()?.start_container(&name, None::<StartContainerOptions>).await?)
        })
        .await
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            let engine = self.engine()?;
            let name = self.name(instance);
            if let Err(error) = engine.pause_container(&name).await {
                return self.accept_if_already(instance, ContainerState::Frozen, error.into()).await;
            }
            // Without swap there is nowhere to put the pages; the kernel could only drop page cache.
            if reclaim::swap_mib().await > 0 {
                let engine = engine.clone();
                self.reclaimer.begin(instance, async move {
                    let there = timeout(READ_TIMEOUT, engine.inspect_container(&name, None::<InspectContainerOptions>))
                        .await??;
                    let pid = there.state.and_then(|state| state.pid).context("it has no process")?;
                    reclaim::ReclaimTarget::of(pid).await
                });
            }
            Ok(())
        })
        .await
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            self.reclaimer.cancel(instance);
            match self.engine()?.unpause_container(&self.name(instance)).await {
                Ok(()) => Ok(()),
                Err(error) => self.accept_if_already(instance, ContainerState::Running, error.into()).await,
            }
        })
        .await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            self.reclaimer.cancel(instance);
            let Some(found) = self.inspect_container(instance).await? else { return Ok(()) };
            let (engine, name) = (self.engine()?, self.name(instance));
            match found.state {
                ContainerState::Stopped => return Ok(()),
                // A frozen process cannot handle SIGTERM. If a concurrent call thawed it, that is not a failure.
                ContainerState::Frozen => {
                    if let Err(error) = engine.unpause_container(&name).await {
                        self.accept_if_already(instance, ContainerState::Running, error.into()).await?;
                    }
                }
                ContainerState::Running => {}
            }
            let options = StopContainerOptionsBuilder::default().t(host_config::STOP_SECONDS).build();
            match engine.stop_container(&name, Some(options)).await {
                Err(error) if !errors::is_absent(&error) => Err(error.into()),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.reclaimer.cancel(instance);
        within(CHANGE_TIMEOUT, self.remove(instance)).await
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.volumes.tombstones.bury(&self.name(instance))
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.volumes.tombstones.unbury(&self.name(instance))
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE_TIMEOUT, async {
            let name = self.name(instance);
            if !self.volumes.tombstones.is_buried(&name)? && !self.has_volume(instance).await? {
                return Ok(());
            }
            // The date is checked first, on this host alone: no answer of the Engine can bypass it.
            self.volumes.tombstones.refuse_unless_due(&name)?;
            if self.inspect_container(instance).await?.is_some() {
                return Err(HostError::Refused(format!("there is a container on {name}; remove it first")));
            }
            self.volumes.destroy(self.engine()?, instance, &name).await
        })
        .await
    }

    async fn inspect(&self, instance: InstanceId) -> Result<ObservedInstance, HostError> {
        within(READ_TIMEOUT, async {
            let (found, volume) = tokio::try_join!(self.inspect_container(instance), self.has_volume(instance))?;
            let container = match found {
                Some(found) => Some(self.observe(found).await?),
                None => None,
            };
            Ok(ObservedInstance { instance, volume, container })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<ObservedInstance>, HostError> {
        within(READ_TIMEOUT, async {
            let engine = self.engine()?;
            let ours = labels::filter(&self.config.network);
            let volumes = ListVolumesOptionsBuilder::default().filters(&ours).build();
            let containers = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
            // Two concurrent requests; a change between them is noticed at the next listing.
            let (volumes, containers) =
                tokio::try_join!(engine.list_volumes(Some(volumes)), engine.list_containers(Some(containers)))?;
            let mut seen = BTreeMap::new();
            for volume in volumes.volumes.unwrap_or_default() {
                if let Some(instance) = volume.labels.get(labels::INSTANCE).and_then(|id| id.parse().ok()) {
                    seen.insert(instance, ObservedInstance { instance, volume: true, container: None });
                }
            }
            let mut looks = futures_util::stream::iter(containers)
                .map(|c| self.observe_entry(c))
                .buffer_unordered(CONCURRENT_INSPECTIONS);
            while let Some(look) = looks.try_next().await? {
                if let Some((instance, container)) = look {
                    let seen =
                        seen.entry(instance).or_insert(ObservedInstance { instance, volume: false, container: None });
                    seen.container = Some(container);
                }
            }
            Ok(seen.into_values().collect())
        })
        .await
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        let engine = self.engine()?.clone();
        // bollard sends the request at the first poll. `since` makes the Engine replay the events since now, so none is
        // lost.
        let since = self.clock.now().seconds().to_string();
        // An unreachable Engine is an error here, instead of a stream that ends at once.
        within(READ_TIMEOUT, async { Ok(engine.ping().await?) }).await?;
        let mut filters = labels::filter(&self.config.network);
        filters.extend([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let events = engine.events(Some(options)).take_while(|event| std::future::ready(event.is_ok()));
        Ok(events.filter_map(|event| std::future::ready(event.ok().and_then(inspection::instance_of))).boxed())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it reads two small kernel files for each running container, of which there are at most 32 000"
    )]
    async fn load(&self) -> Result<HostLoad, HostError> {
        let parent = self.cgroup_parent().await?;
        tokio::task::spawn_blocking(move || load::read(parent)).await.map_err(|_| HostError::Timeout)?
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        // The longer timeout, because it inspects every container that is not stopped.
        within(CHANGE_TIMEOUT, async {
            let parent = self.cgroup_parent().await?;
            let report =
                report::report(self.engine()?, &self.config, &self.isolation, parent, self.clock.now()).await?;
            self.volumes.complete(self.engine()?, report).await
        })
        .await
    }
}
