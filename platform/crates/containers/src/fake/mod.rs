//! A small world of containers in memory that keeps the contract of [`ContainerHost`], and that tests can step and break.

mod world;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_ground::clock::Clock;
use berth_ground::ids::InstanceId;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

use self::world::{World, healthy, plenty};
use super::{ContainerHost, ContainerSpec, ContainerState, Exit, HostError, HostLoad, HostReport, Seen, gateway};
use crate::config::ContainerConfig;

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
    BuryVolume,
    UnburyVolume,
    DestroyVolume,
    Inspect,
    List,
    Events,
    Load,
    HostReport,
}

/// Where a held call waits: with nothing done yet, or done and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    BeforeItsEffect,
    AfterItsEffect,
}

/// A handle to the world; clones share it.
#[derive(Clone)]
pub struct FakeHost {
    config: ContainerConfig,
    world: Arc<Mutex<World>>,
    gates: watch::Sender<HashMap<Verb, Gate>>,
}

/// Holds the calls of one verb.
struct Gate {
    held: Held,
    may_pass: u64,
    waiting: u64,
}

impl FakeHost {
    /// An empty world in which every allowed image is there.
    #[must_use]
    pub fn new(config: ContainerConfig, clock: Clock) -> Self {
        let world = World {
            instances: BTreeMap::new(),
            images: config.images.iter().cloned().collect(),
            calls: HashMap::new(),
            failures: HashMap::new(),
            latency: HashMap::new(),
            reachable: true,
            events: broadcast::channel(256).0,
            containers_made: 0,
            report: healthy(),
            load: plenty(),
            image_ids: HashMap::new(),
            broken_images: HashMap::new(),
            clock,
        };
        Self { config, world: Arc::new(Mutex::new(world)), gates: watch::Sender::default() }
    }

    /// From now on a call of `verb` waits until [`FakeHost::let_one_pass`] or [`FakeHost::release`] lets it.
    pub fn hold(&self, verb: Verb, held: Held) {
        self.gates.send_modify(|gates| {
            gates.insert(verb, Gate { held, may_pass: 0, waiting: 0 });
        });
    }

    /// Lets one call of `verb` finish that waits, or the next one that comes.
    pub fn let_one_pass(&self, verb: Verb) {
        self.gates.send_modify(|gates| {
            gates.entry(verb).and_modify(|gate| gate.may_pass += 1);
        });
    }

    /// Calls of `verb` no longer wait, also those that do already.
    pub fn release(&self, verb: Verb) {
        self.gates.send_modify(|gates| {
            gates.remove(&verb);
        });
    }

    /// Waits until a call of `verb` is held.
    pub async fn until_held(&self, verb: Verb) {
        let mut gates = self.gates.subscribe();
        let held = gates.wait_for(|gates| gates.get(&verb).is_some_and(|gate| gate.waiting > 0)).await;
        held.expect("the sender is our own");
    }

    /// How many calls of `verb` are held now.
    #[must_use]
    pub fn held(&self, verb: Verb) -> u64 {
        self.gates.borrow().get(&verb).map_or(0, |gate| gate.waiting)
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

    /// The image's name means another one from now on, as after a build.
    pub fn rebuild_image(&self, image: &str) {
        *self.world().image_ids.entry(image.to_owned()).or_default() += 1;
    }

    /// A container of this image ends right after each start.
    pub fn breaks_when_started(&self, image_id: &str, exit: Exit) {
        self.world().broken_images.insert(image_id.to_owned(), exit);
    }

    /// Whether the container at this address runs.
    #[must_use]
    pub fn runs_at(&self, address: IpAddr) -> bool {
        let world = self.world();
        let mut containers = world.instances.values().filter_map(|place| place.container.as_ref());
        containers.any(|there| {
            there.seen.state == ContainerState::Running && there.spec.slot.address(self.config.subnet) == address
        })
    }

    /// Changes what [`ContainerHost::load`] says.
    pub fn set_load(&self, change: impl FnOnce(&mut HostLoad)) {
        change(&mut self.world().load);
    }

    /// Changes what the host says of itself; of images it says what is there.
    pub fn report_with(&self, change: impl FnOnce(&mut HostReport)) {
        change(&mut self.world().report);
    }

    /// What the container of `instance` was made with.
    #[must_use]
    pub fn spec(&self, instance: InstanceId) -> Option<ContainerSpec> {
        self.world().container(instance).map(|container| container.spec.clone())
    }

    /// What the instance's program writes into its volume.
    pub fn write(&self, instance: InstanceId, bytes: &[u8]) {
        if let Some(place) = self.world().instances.get_mut(&instance) {
            place.volume = Some(bytes.to_vec());
        }
    }

    /// What is in the volume; `None` when there is none.
    #[must_use]
    pub fn read(&self, instance: InstanceId) -> Option<Vec<u8>> {
        self.world().instances.get(&instance)?.volume.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, lets its latency pass, holds it and fails it when a test wants so.
    async fn enter(&self, verb: Verb) -> Result<(), HostError> {
        let latency = {
            let mut world = self.world();
            *world.calls.entry(verb).or_default() += 1;
            world.latency.get(&verb).copied()
        };
        if let Some(latency) = latency {
            tokio::time::sleep(latency).await;
        }
        self.pass(verb, Held::BeforeItsEffect).await;
        let mut world = self.world();
        if !world.reachable {
            return Err(HostError::Unreachable);
        }
        match world.failures.get_mut(&verb) {
            Some(failures) if !failures.is_empty() => Err(failures.remove(0)),
            _ => Ok(()),
        }
    }

    /// Waits while calls of `verb` are held there.
    async fn pass(&self, verb: Verb, at: Held) {
        let mut gates = self.gates.subscribe();
        let mut waiting = None;
        while !self.may_pass(verb, at) {
            waiting.get_or_insert_with(|| Waiting::begin(self, verb));
            if gates.changed().await.is_err() {
                return;
            }
        }
    }

    fn may_pass(&self, verb: Verb, at: Held) -> bool {
        let mut may = true;
        self.gates.send_if_modified(|gates| {
            let Some(gate) = gates.get_mut(&verb).filter(|gate| gate.held == at) else { return false };
            may = gate.may_pass > 0;
            gate.may_pass = gate.may_pass.saturating_sub(1);
            may
        });
        may
    }
}

/// One call that is held; it also ends when nobody waits for it any more.
struct Waiting<'a>(&'a FakeHost, Verb);

impl<'a> Waiting<'a> {
    fn begin(host: &'a FakeHost, verb: Verb) -> Self {
        let waiting = Self(host, verb);
        waiting.count(|n| n + 1);
        waiting
    }

    fn count(&self, change: impl FnOnce(u64) -> u64) {
        self.0.gates.send_modify(|gates| {
            gates.entry(self.1).and_modify(|gate| gate.waiting = change(gate.waiting));
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count(|n| n.saturating_sub(1));
    }
}

#[async_trait]
impl ContainerHost for FakeHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        self.enter(Verb::EnsureNetworks).await?;
        Ok((0..u32::from(self.config.bridges)).map(|bridge| gateway(self.config.subnet, bridge)).collect())
    }

    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError> {
        self.enter(Verb::EnsureVolume).await?;
        known_size(&self.config, size)?;
        self.world().make_volume(instance)?;
        self.pass(Verb::EnsureVolume, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.enter(Verb::Create).await?;
        if !self.config.images.contains(&spec.image) {
            return Err(HostError::Refused(format!("the image {} is not in BERTH_IMAGES", spec.image)));
        }
        known_size(&self.config, &spec.size)?;
        if spec.slot.bridge() >= u32::from(self.config.bridges) {
            return Err(HostError::Refused(format!("slot {} is past the last of the BERTH_BRIDGES", spec.slot.0)));
        }
        self.world().create(spec)?;
        self.pass(Verb::Create, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Start).await?;
        self.world().start(instance)?;
        self.pass(Verb::Start, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Freeze).await?;
        self.world().between(instance, ContainerState::Frozen)?;
        self.pass(Verb::Freeze, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Thaw).await?;
        self.world().between(instance, ContainerState::Running)?;
        self.pass(Verb::Thaw, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Stop).await?;
        // What a program that ends on SIGTERM leaves behind: 128 + 15.
        self.world().bring(instance, ContainerState::Stopped, Some(Exit { code: 143, out_of_memory: false }));
        self.pass(Verb::Stop, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::RemoveContainer).await?;
        self.world().remove_container(instance);
        self.pass(Verb::RemoveContainer, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::BuryVolume).await?;
        self.world().bury(instance);
        self.pass(Verb::BuryVolume, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::UnburyVolume).await?;
        self.world().unbury(instance);
        self.pass(Verb::UnburyVolume, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::DestroyVolume).await?;
        self.world().destroy_volume(instance, self.config.delete_after)?;
        self.pass(Verb::DestroyVolume, Held::AfterItsEffect).await;
        Ok(())
    }

    async fn inspect(&self, instance: InstanceId) -> Result<Seen, HostError> {
        self.enter(Verb::Inspect).await?;
        let seen = self.world().seen(instance);
        self.pass(Verb::Inspect, Held::AfterItsEffect).await;
        Ok(seen)
    }

    async fn list(&self) -> Result<Vec<Seen>, HostError> {
        self.enter(Verb::List).await?;
        let seen = self.world().all();
        self.pass(Verb::List, Held::AfterItsEffect).await;
        Ok(seen)
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        self.enter(Verb::Events).await?;
        let events = BroadcastStream::new(self.world().events.subscribe());
        // Events are hints: a watcher too slow for some of them misses those.
        Ok(events.filter_map(|event| std::future::ready(event.ok())).boxed())
    }

    async fn load(&self) -> Result<HostLoad, HostError> {
        self.enter(Verb::Load).await?;
        Ok(self.world().load.clone())
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        self.enter(Verb::HostReport).await?;
        let world = self.world();
        let missing = self.config.images.iter().filter(|image| !world.images.contains(*image));
        let missing_images = missing.cloned().collect();
        let disk_limit = self.config.disk_limit;
        Ok(HostReport { missing_images, disk_limit, buried: world.buried(), ..world.report.clone() })
    }
}

fn known_size(config: &ContainerConfig, size: &str) -> Result<(), HostError> {
    config.size(size).map(|_| ()).ok_or_else(|| HostError::Refused(format!("the size {size} is not in BERTH_SIZES")))
}
