//! Containers on a Docker Engine: the only place that knows bollard, and the only one that decides what a tenant may do.
//!
//! One Engine call has no deadline that can be trusted (bollard's own covers response headers only), so each verb
//! carries one around everything it does. Names are deterministic and labels say the rest: nothing is remembered here
//! that the Engine could not tell again.

mod disks;
mod errors;
mod file_systems;
mod firewall;
mod home;
mod host_config;
mod labels;
mod load;
mod made;
mod networks;
mod reclaim;
mod report;
mod seen;
mod tombstones;
mod volumes;
mod walls;

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
use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, SystemInfoCgroupDriverEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::errors::within;
use self::labels::Labels;
use self::seen::Found;
use self::walls::Walls;
use super::{ContainerHost, ContainerSpec, ContainerState, HostError, HostLoad, HostReport, Seen, SeenContainer};
use crate::config::{ContainerConfig, Runtime, Size};

/// For verbs that only look.
const LOOK: Duration = Duration::from_secs(10);
/// For verbs that change something.
const CHANGE: Duration = Duration::from_secs(30);
/// Inspections under way at once while listing.
const LOOKS_AT_ONCE: usize = 8;
/// What happens to a container that may concern its instance.
const EVENTS: [&str; 7] = ["create", "start", "pause", "unpause", "oom", "die", "destroy"];

/// The Engine on this machine.
pub struct DockerHost {
    config: ContainerConfig,
    clock: Clock,
    socket: PathBuf,
    engine: OnceLock<Docker>,
    cgroup_parent: OnceCell<&'static str>,
    walls: Walls,
    hand_back: reclaim::HandBack,
    volumes: volumes::Volumes,
}

impl DockerHost {
    /// The Engine on its usual socket. It is reached for at the first call and again at every later one, so that it
    /// may come after us and go at any time. Memory is handed back by this same program: its command line must know
    /// `reclaim --file FILE --bytes BYTES` and do what the provisioner's `reclaim` does.
    #[must_use]
    pub fn connect(config: ContainerConfig, clock: Clock) -> Self {
        Self::connect_with(config, clock, "/var/run/docker.sock".into(), "/proc/self/exe".into())
    }

    /// The Engine on `socket`, with `reclaimer` as the program that hands memory back.
    #[must_use]
    pub fn connect_with(config: ContainerConfig, clock: Clock, socket: PathBuf, reclaimer: PathBuf) -> Self {
        let walls = Walls::new(&config.network, None);
        Self {
            volumes: volumes::Volumes::new(&config, clock.clone()),
            config,
            hand_back: reclaim::HandBack::new(reclaimer, clock.clone()),
            clock,
            socket,
            engine: OnceLock::new(),
            cgroup_parent: OnceCell::new(),
            walls,
        }
    }

    /// The same, with `nft` as the program that sets our firewall.
    #[must_use]
    pub fn with_nft(mut self, nft: PathBuf) -> Self {
        self.walls = Walls::new(&self.config.network, Some(nft));
        self
    }

    /// A client for one call. There is no separate deadline for connecting: a local socket connects or refuses at once.
    fn engine(&self) -> Result<&Docker, HostError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let socket = self.socket.to_str().ok_or(HostError::Unreachable)?;
        let engine = Docker::connect_with_socket(socket, CHANGE.as_secs(), bollard::API_DEFAULT_VERSION)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// The name of an instance's container, and of its volume.
    fn name(&self, instance: InstanceId) -> String {
        format!("{}-{instance}", self.config.network)
    }

    /// The container as the Engine knows it; `None` when there is none. One by our name that is not ours is refused.
    async fn look(&self, instance: InstanceId) -> Result<Option<Found>, HostError> {
        let name = self.name(instance);
        match self.engine()?.inspect_container(&name, None::<InspectContainerOptions>).await {
            Ok(there) => {
                let found = Found::read(&self.config.network, there);
                found
                    .map(Some)
                    .ok_or_else(|| HostError::Refused(format!("{name} is a container that Berth did not make")))
            }
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// After the Engine refused to bring a container to `wanted`: that is no failure when it is there already.
    async fn unless(&self, instance: InstanceId, wanted: ContainerState, refusal: HostError) -> Result<(), HostError> {
        if !matches!(refusal, HostError::Failed(_)) {
            return Err(refusal);
        }
        match self.look(instance).await? {
            Some(found) if found.state == wanted => Ok(()),
            Some(_) => Err(refusal),
            None => Err(HostError::NotFound),
        }
    }

    /// After the Engine refused a name because somebody else is making that container: fine when it is the same.
    /// The name is taken a moment before the container can be seen, so this looks more than once.
    async fn made_meanwhile(
        &self,
        instance: InstanceId,
        wanted: Option<String>,
        refusal: HostError,
    ) -> Result<(), HostError> {
        for _ in 0..20 {
            match self.look(instance).await? {
                Some(found) if found.spec_hash == wanted => return Ok(()),
                Some(_) => return Err(refusal),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(refusal)
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), HostError> {
        // gVisor does not kill what is paused: the Engine waits ten seconds for it. That it was not frozen is no failure.
        if self.config.runtime == Runtime::Runsc
            && let Err(error) = self.engine()?.unpause_container(&self.name(instance)).await
        {
            tracing::debug!("not thawed before it is removed: {error}");
        }
        // Volumes that the image declares have no name and go with the container; ours has one, and stays.
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.engine()?.remove_container(&self.name(instance), Some(options)).await {
            Err(error) if !errors::is_absent(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The configuration of `spec`'s container, its image resolved among the allowed ones that are on this host, or the one
    /// that the container `there` was upgraded from.
    async fn body(&self, spec: &ContainerSpec, there: Option<&Found>) -> Result<ContainerCreateBody, HostError> {
        let size = self.size(&spec.size)?;
        if !self.config.images.contains(&spec.image) {
            return Err(HostError::Refused(format!("the image {} is not in BERTH_IMAGES", spec.image)));
        }
        if spec.slot.bridge() >= u32::from(self.config.bridges) {
            return Err(HostError::Refused(format!("slot {} is past the last of the BERTH_BRIDGES", spec.slot.0)));
        }
        let before = there.and_then(|found| found.image_before.as_deref());
        let there_now = there.map(|found| found.marks.image_id.as_str());
        if let Some(id) = spec.image_id.as_deref()
            && ![before, there_now].contains(&Some(id))
        {
            return Err(HostError::Refused("an image by its id is for going back from an upgrade only".into()));
        }
        let name = spec.image_id.as_ref().unwrap_or(&spec.image);
        let image = self.image_id(name).await?.ok_or_else(|| HostError::ImageMissing(spec.image.clone()))?;
        // Going back is for what was allowed when it was made.
        if spec.image_id.is_none() && self.config.is_pinned_otherwise(&spec.image, &image) {
            return Err(HostError::Refused(format!(
                "the image {} is {image} here, which is not the one that BERTH_IMAGES pins",
                spec.image
            )));
        }
        let parent = self.cgroup_parent().await?;
        Ok(host_config::body(&self.config, spec, size, &image, parent, &self.name(spec.instance)))
    }

    fn size(&self, name: &str) -> Result<&Size, HostError> {
        self.config.size(name).ok_or_else(|| HostError::Refused(format!("the size {name} is not in BERTH_SIZES")))
    }

    /// What the name of an image means now; `None` when there is none of that name.
    async fn image_id(&self, name: &str) -> Result<Option<String>, HostError> {
        match self.engine()?.inspect_image(name).await {
            Ok(image) => Ok(image.id),
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the image's name means now, and whether a container made now would be of the same kind.
    async fn newest(&self, marks: &Labels) -> Result<(String, bool), HostError> {
        let Some(id) = self.image_id(&marks.image).await? else { return Ok((String::new(), true)) };
        // What BERTH_IMAGES does not pin is no news for whom runs the pinned one.
        if self.config.is_pinned_otherwise(&marks.image, &id) {
            return Ok((String::new(), true));
        }
        // One from before there were sizes is of an older kind.
        let Some(size) = self.config.size(&marks.size) else { return Ok((id, !marks.size.is_empty())) };
        let parent = self.cgroup_parent().await?;
        let kind = host_config::kind(&self.config, &marks.image, size, &id, parent);
        Ok((id, marks.kind == kind))
    }

    async fn seen(&self, found: Found) -> Result<SeenContainer, HostError> {
        let newest = self.newest(&found.marks).await?;
        Ok(found.marks.seen((found.id, found.state, found.exit), newest))
    }

    /// One cgroup above all tenants, where the operator can limit their sum. The driver decides how it is written.
    async fn cgroup_parent(&self) -> Result<&'static str, HostError> {
        let ask = || async {
            let driver = self.engine()?.info().await?.cgroup_driver;
            Ok(if driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD) { "berth.slice" } else { "/berth" })
        };
        self.cgroup_parent.get_or_try_init(ask).await.copied()
    }

    /// What a list entry says; a stopped one is inspected, because only that tells how it ended.
    async fn listed(&self, entry: ContainerSummary) -> Result<Option<(InstanceId, SeenContainer)>, HostError> {
        use ContainerSummaryStateEnum::{PAUSED, RUNNING};
        let marks = entry.labels.as_ref().and_then(|l| labels::read(&self.config.network, l));
        let Some(marks) = marks else { return Ok(None) };
        let state = match entry.state {
            Some(RUNNING) => ContainerState::Running,
            Some(PAUSED) => ContainerState::Frozen,
            _ => {
                let Some(found) = self.look(marks.instance).await? else { return Ok(None) };
                return Ok(Some((marks.instance, self.seen(found).await?)));
            }
        };
        let newest = self.newest(&marks).await?;
        Ok(Some((marks.instance, marks.seen((entry.id.unwrap_or_default(), state, None), newest))))
    }

    async fn has_volume(&self, instance: InstanceId) -> Result<bool, HostError> {
        match self.engine()?.inspect_volume(&self.name(instance)).await {
            Ok(_) => Ok(true),
            Err(error) if errors::is_absent(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ContainerHost for DockerHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        within(CHANGE, async { self.walls.ensure(self.engine()?, &self.config).await }).await
    }

    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError> {
        within(CHANGE, async {
            let mib = self.size(size)?.disk_mib;
            self.volumes.ensure(self.engine()?, (instance, &self.name(instance)), mib).await
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        within(CHANGE, async {
            let name = self.name(spec.instance);
            let there = self.look(spec.instance).await?;
            let mut body = self.body(spec, there.as_ref()).await?;
            let labels = body.labels.get_or_insert_default();
            let wanted = labels.get(labels::SPEC_HASH).cloned();
            labels.insert(labels::MADE_AT.into(), self.clock.now().0.to_string());
            if let Some(found) = there {
                if found.spec_hash == wanted {
                    return Ok(());
                }
                self.volumes.refuse_unless_usable(self.engine()?, &name).await?;
                labels.insert(labels::IMAGE_BEFORE.into(), found.marks.image_id);
                self.hand_back.end(spec.instance);
                self.remove(spec.instance).await?;
            }
            self.ensure_volume(spec.instance, &spec.size).await?;
            // The Engine fills an empty volume with what the image has there.
            let _attached = self.volumes.attach(spec.instance, &name).await?;
            let options = CreateContainerOptionsBuilder::default().name(&name).build();
            match self.engine()?.create_container(Some(options), body).await {
                Ok(_) => Ok(()),
                Err(error) if errors::is_conflict(&error) => {
                    self.made_meanwhile(spec.instance, wanted, error.into()).await
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE, async {
            let found = self.look(instance).await?.ok_or(HostError::NotFound)?;
            if found.state != ContainerState::Stopped {
                return Ok(());
            }
            self.walls.ensure_once(self.engine()?, &self.config).await?;
            let name = self.name(instance);
            self.volumes.refuse_unless_usable(self.engine()?, &name).await?;
            let _attached = self.volumes.attach(instance, &name).await?;
            // Before its first start, and here rather than in `create`, so that a crash between the two loses nothing.
            if found.never_ran {
                home::give(self.engine()?, &name, self.clock.now()).await?;
            }
            Ok(self.engine()?.start_container(&name, None::<StartContainerOptions>).await?)
        })
        .await
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE, async {
            let engine = self.engine()?;
            let name = self.name(instance);
            if let Err(error) = engine.pause_container(&name).await {
                return self.unless(instance, ContainerState::Frozen, error.into()).await;
            }
            if reclaim::swap_mib().await > 0 {
                let engine = engine.clone();
                self.hand_back.begin(instance, async move {
                    let there =
                        timeout(LOOK, engine.inspect_container(&name, None::<InspectContainerOptions>)).await??;
                    let pid = there.state.and_then(|state| state.pid).context("it has no process")?;
                    reclaim::Target::of(pid).await
                });
            }
            Ok(())
        })
        .await
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE, async {
            self.hand_back.end(instance);
            match self.engine()?.unpause_container(&self.name(instance)).await {
                Ok(()) => Ok(()),
                Err(error) => self.unless(instance, ContainerState::Running, error.into()).await,
            }
        })
        .await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE, async {
            self.hand_back.end(instance);
            let Some(found) = self.look(instance).await? else { return Ok(()) };
            let (engine, name) = (self.engine()?, self.name(instance));
            match found.state {
                ContainerState::Stopped => return Ok(()),
                // A frozen process cannot answer SIGTERM. That it thawed by itself meanwhile is no failure.
                ContainerState::Frozen => {
                    if let Err(error) = engine.unpause_container(&name).await {
                        self.unless(instance, ContainerState::Running, error.into()).await?;
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
        self.hand_back.end(instance);
        within(CHANGE, self.remove(instance)).await
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.volumes.tombstones.bury(&self.name(instance))
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.volumes.tombstones.unbury(&self.name(instance))
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        within(CHANGE, async {
            let name = self.name(instance);
            if !self.volumes.tombstones.is_buried(&name)? && !self.has_volume(instance).await? {
                return Ok(());
            }
            self.volumes.tombstones.refuse_unless_due(&name)?;
            if self.look(instance).await?.is_some() {
                return Err(HostError::Refused(format!("there is a container on {name}; remove it first")));
            }
            self.volumes.destroy(self.engine()?, instance, &name).await
        })
        .await
    }

    async fn inspect(&self, instance: InstanceId) -> Result<Seen, HostError> {
        within(LOOK, async {
            let (found, volume) = tokio::try_join!(self.look(instance), self.has_volume(instance))?;
            let container = match found {
                Some(found) => Some(self.seen(found).await?),
                None => None,
            };
            Ok(Seen { instance, volume, container })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Seen>, HostError> {
        within(LOOK, async {
            let engine = self.engine()?;
            let ours = labels::filter(&self.config.network);
            let volumes = ListVolumesOptionsBuilder::default().filters(&ours).build();
            let containers = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
            let (volumes, containers) =
                tokio::try_join!(engine.list_volumes(Some(volumes)), engine.list_containers(Some(containers)))?;
            let mut seen = BTreeMap::new();
            for volume in volumes.volumes.unwrap_or_default() {
                if let Some(instance) = volume.labels.get(labels::INSTANCE).and_then(|id| id.parse().ok()) {
                    seen.insert(instance, Seen { instance, volume: true, container: None });
                }
            }
            let mut looks =
                futures_util::stream::iter(containers).map(|c| self.listed(c)).buffer_unordered(LOOKS_AT_ONCE);
            while let Some(look) = looks.try_next().await? {
                if let Some((instance, container)) = look {
                    let seen = seen.entry(instance).or_insert(Seen { instance, volume: false, container: None });
                    seen.container = Some(container);
                }
            }
            Ok(seen.into_values().collect())
        })
        .await
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        let engine = self.engine()?.clone();
        // The stream asks only when it is polled; what happens until then is told later, because of `since`.
        let since = self.clock.now().seconds().to_string();
        within(LOOK, async { Ok(engine.ping().await?) }).await?;
        let mut filters = labels::filter(&self.config.network);
        filters.extend([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let events = engine.events(Some(options)).take_while(|event| std::future::ready(event.is_ok()));
        Ok(events.filter_map(|event| std::future::ready(event.ok().and_then(seen::instance_of))).boxed())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it reads two small files of the kernel for each container that runs, and there are at most 32 000"
    )]
    async fn load(&self) -> Result<HostLoad, HostError> {
        let parent = self.cgroup_parent().await?;
        tokio::task::spawn_blocking(move || load::read(parent)).await.map_err(|_| HostError::Timeout)?
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        // It looks at every container that is not stopped.
        within(CHANGE, async {
            let parent = self.cgroup_parent().await?;
            let report = report::report(self.engine()?, &self.config, &self.walls, parent, self.clock.now()).await?;
            self.volumes.complete(self.engine()?, report).await
        })
        .await
    }
}
