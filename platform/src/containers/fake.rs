//! A small world of containers in memory that keeps the contract of [`ContainerHost`], and that tests can step and break.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

use super::{ContainerHost, ContainerSpec, ContainerState, Exit, HostError, HostReport, Seen, SeenContainer, gateway};
use crate::config::ContainerConfig;
use crate::db::InstanceId;
use crate::secrets::{hash, hex};

/// The verbs of [`ContainerHost`], to count them and to make them fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    EnsureNetworks,
    EnsureVolume,
    Create,
    Start,
    Freeze,
    Thaw,
    Stop,
    RemoveContainer,
    Inspect,
    List,
    Events,
    HostReport,
}

/// A handle to the world; clones share it.
#[derive(Clone)]
pub struct FakeHost {
    config: ContainerConfig,
    world: Arc<Mutex<World>>,
    /// How many starts may finish; `None` when they are not held.
    may_start: watch::Sender<Option<u64>>,
}

struct World {
    instances: BTreeMap<InstanceId, Place>,
    images: HashSet<String>,
    calls: HashMap<Verb, usize>,
    failures: HashMap<Verb, Vec<HostError>>,
    latency: HashMap<Verb, Duration>,
    reachable: bool,
    events: broadcast::Sender<InstanceId>,
    containers_made: u64,
    starts_waiting: u64,
}

#[derive(Default)]
struct Place {
    volume: bool,
    container: Option<Container>,
}

struct Container {
    spec: ContainerSpec,
    seen: SeenContainer,
}

impl FakeHost {
    /// An empty world in which every allowed image is there.
    #[must_use]
    pub fn new(config: ContainerConfig) -> Self {
        let world = World {
            instances: BTreeMap::new(),
            images: config.images.iter().cloned().collect(),
            calls: HashMap::new(),
            failures: HashMap::new(),
            latency: HashMap::new(),
            reachable: true,
            events: broadcast::channel(256).0,
            containers_made: 0,
            starts_waiting: 0,
        };
        Self { config, world: Arc::new(Mutex::new(world)), may_start: watch::Sender::new(None) }
    }

    /// From now on a start waits until [`FakeHost::finish_start`] lets it.
    pub fn hold_starts(&self) {
        self.may_start.send_replace(Some(0));
    }

    /// Lets one start finish that waits, or the next one that comes.
    pub fn finish_start(&self) {
        self.may_start.send_modify(|may| *may = may.map(|n| n + 1));
    }

    /// Starts no longer wait, also those that do already.
    pub fn release_starts(&self) {
        self.may_start.send_replace(None);
    }

    /// Starts that wait to be let through.
    #[must_use]
    pub fn starts_waiting(&self) -> u64 {
        self.world().starts_waiting
    }

    /// The next call of `verb` fails with `error`; asked for twice, the next two.
    pub fn fail_next(&self, verb: Verb, error: HostError) {
        self.world().failures.entry(verb).or_default().push(error);
    }

    /// Nothing answers any more, and event streams end.
    pub fn cut_off(&self) {
        let mut world = self.world();
        world.reachable = false;
        world.events = broadcast::channel(256).0;
    }

    /// Undoes [`FakeHost::cut_off`].
    pub fn reconnect(&self) {
        self.world().reachable = true;
    }

    /// Every call of `verb` takes `latency` from now on, on tokio's clock.
    pub fn delay(&self, verb: Verb, latency: Duration) {
        self.world().latency.insert(verb, latency);
    }

    /// How often `verb` was called, failures included.
    #[must_use]
    pub fn calls(&self, verb: Verb) -> usize {
        self.world().calls.get(&verb).copied().unwrap_or_default()
    }

    /// The container ends by itself, as when its program crashes or uses too much memory.
    pub fn crash(&self, instance: InstanceId, exit: Exit) {
        let mut world = self.world();
        if let Some(container) = world.container(instance) {
            container.seen.state = ContainerState::Stopped;
            container.seen.exit = Some(exit);
        }
        world.tell(instance);
    }

    /// Tells whoever watches events that something happened to `instance`.
    pub fn emit(&self, instance: InstanceId) {
        self.world().tell(instance);
    }

    /// The image is no longer on the host.
    pub fn forget_image(&self, image: &str) {
        self.world().images.remove(image);
    }

    /// The image is on the host again.
    pub fn load_image(&self, image: &str) {
        self.world().images.insert(image.to_owned());
    }

    /// What the container of `instance` was made with.
    #[must_use]
    pub fn spec(&self, instance: InstanceId) -> Option<ContainerSpec> {
        self.world().container(instance).map(|container| container.spec.clone())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, lets its latency pass, and fails it when a test wants so.
    async fn enter(&self, verb: Verb) -> Result<(), HostError> {
        let latency = {
            let mut world = self.world();
            *world.calls.entry(verb).or_default() += 1;
            world.latency.get(&verb).copied()
        };
        if let Some(latency) = latency {
            tokio::time::sleep(latency).await;
        }
        let mut world = self.world();
        if !world.reachable {
            return Err(HostError::Unreachable);
        }
        match world.failures.get_mut(&verb) {
            Some(failures) if !failures.is_empty() => Err(failures.remove(0)),
            _ => Ok(()),
        }
    }

    async fn wait_for_start(&self) {
        self.world().starts_waiting += 1;
        let _waiting = Waiting(self);
        let mut may_start = self.may_start.subscribe();
        loop {
            let taken = self.may_start.send_if_modified(|may| match may {
                Some(n) if *n > 0 => {
                    *n -= 1;
                    true
                }
                _ => false,
            });
            if taken || may_start.borrow_and_update().is_none() || may_start.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One start that waits; it also ends when nobody waits for it any more.
struct Waiting<'a>(&'a FakeHost);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.world().starts_waiting -= 1;
    }
}

impl World {
    fn container(&mut self, instance: InstanceId) -> Option<&mut Container> {
        self.instances.get_mut(&instance)?.container.as_mut()
    }

    fn tell(&self, instance: InstanceId) {
        // Nobody watching is no failure.
        let _ = self.events.send(instance);
    }

    /// Brings a container to `state` if it is not there yet, and tells.
    fn bring(&mut self, instance: InstanceId, state: ContainerState, exit: Option<Exit>) {
        let Some(container) = self.container(instance) else { return };
        if container.seen.state != state {
            container.seen.state = state;
            container.seen.exit = exit;
            self.tell(instance);
        }
    }

    fn state(&mut self, instance: InstanceId) -> Option<ContainerState> {
        self.container(instance).map(|container| container.seen.state)
    }

    fn make(&mut self, spec: &ContainerSpec) {
        self.containers_made += 1;
        let seen = SeenContainer {
            id: format!("fake-{}", self.containers_made),
            state: ContainerState::Stopped,
            image: spec.image.clone(),
            slot: spec.slot,
            token_hash: hex(&hash(&spec.token)),
            exit: None,
        };
        let place = self.instances.entry(spec.instance).or_default();
        // As on the Engine, a container brings the volume it mounts.
        place.volume = true;
        place.container = Some(Container { spec: spec.clone(), seen });
        self.tell(spec.instance);
    }

    fn seen(&self, instance: InstanceId) -> Seen {
        let place = self.instances.get(&instance);
        Seen {
            instance,
            volume: place.is_some_and(|place| place.volume),
            container: place.and_then(|place| place.container.as_ref()).map(|container| container.seen.clone()),
        }
    }
}

#[async_trait]
impl ContainerHost for FakeHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        self.enter(Verb::EnsureNetworks).await?;
        Ok((0..u32::from(self.config.bridges)).map(|bridge| gateway(self.config.subnet, bridge)).collect())
    }

    async fn ensure_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::EnsureVolume).await?;
        self.world().instances.entry(instance).or_default().volume = true;
        Ok(())
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.enter(Verb::Create).await?;
        if !self.config.images.contains(&spec.image) {
            return Err(HostError::Refused(format!("the image {} is not in BERTH_IMAGES", spec.image)));
        }
        if spec.slot.bridge() >= u32::from(self.config.bridges) {
            return Err(HostError::Refused(format!("slot {} is past the last of the BERTH_BRIDGES", spec.slot.0)));
        }
        let mut world = self.world();
        if !world.images.contains(&spec.image) {
            return Err(HostError::ImageMissing(spec.image.clone()));
        }
        if world.container(spec.instance).is_none_or(|container| container.spec != *spec) {
            world.make(spec);
        }
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Start).await?;
        match self.world().state(instance) {
            None => return Err(HostError::NotFound),
            Some(ContainerState::Running | ContainerState::Frozen) => return Ok(()),
            Some(ContainerState::Stopped) => {}
        }
        self.wait_for_start().await;
        let mut world = self.world();
        if world.state(instance).is_none() {
            return Err(HostError::NotFound);
        }
        world.bring(instance, ContainerState::Running, None);
        Ok(())
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Freeze).await?;
        self.between(instance, ContainerState::Frozen)
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Thaw).await?;
        self.between(instance, ContainerState::Running)
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Stop).await?;
        // What a program that ends on SIGTERM leaves behind: 128 + 15.
        self.world().bring(instance, ContainerState::Stopped, Some(Exit { code: 143, out_of_memory: false }));
        Ok(())
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::RemoveContainer).await?;
        let mut world = self.world();
        if world.instances.get_mut(&instance).is_some_and(|place| place.container.take().is_some()) {
            world.tell(instance);
        }
        Ok(())
    }

    async fn inspect(&self, instance: InstanceId) -> Result<Seen, HostError> {
        self.enter(Verb::Inspect).await?;
        Ok(self.world().seen(instance))
    }

    async fn list(&self) -> Result<Vec<Seen>, HostError> {
        self.enter(Verb::List).await?;
        let world = self.world();
        let there = world.instances.iter().filter(|(_, place)| place.volume || place.container.is_some());
        Ok(there.map(|(instance, _)| world.seen(*instance)).collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        self.enter(Verb::Events).await?;
        let events = BroadcastStream::new(self.world().events.subscribe());
        // Events are hints: a watcher too slow for some of them misses those.
        Ok(events.filter_map(|event| std::future::ready(event.ok())).boxed())
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        self.enter(Verb::HostReport).await?;
        let world = self.world();
        Ok(HostReport {
            engine_version: "fake".into(),
            cgroup_version: 2,
            swap_mib: 1024,
            runc_version: "1.3.3".into(),
            storage_driver: "overlay2".into(),
            disk_free_percent: 50,
            missing_images: self.config.images.iter().filter(|i| !world.images.contains(*i)).cloned().collect(),
        })
    }
}

impl FakeHost {
    /// Freezes or thaws a container that runs.
    fn between(&self, instance: InstanceId, state: ContainerState) -> Result<(), HostError> {
        let mut world = self.world();
        match world.state(instance) {
            None => Err(HostError::NotFound),
            Some(ContainerState::Stopped) => Err(HostError::Failed("the container does not run".into())),
            Some(_) => {
                world.bring(instance, state, None);
                Ok(())
            }
        }
    }
}
