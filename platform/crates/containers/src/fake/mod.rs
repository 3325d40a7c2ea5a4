//! The fake container host (test double), in memory, which keeps the contract of [`ContainerHost`]. Tests step it call
//! by call, make its verbs fail, and inspect its state.

mod state;
mod verb;

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

use self::state::{FakeState, healthy_report, idle_load};
pub use self::verb::Verb;
use super::{
    ContainerExit, ContainerHost, ContainerSpec, ContainerState, HostError, HostLoad, HostReport, ObservedInstance,
    gateway,
};
use crate::config::ContainerConfig;

/// The point at which a call is held: before its effect, or after it and before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldPoint {
    BeforeEffect,
    AfterEffect,
}

/// A handle to the fake; clones share its state.
#[derive(Clone)]
pub struct FakeHost {
    config: ContainerConfig,
    state: Arc<Mutex<FakeState>>,
    gates: watch::Sender<HashMap<Verb, CallGate>>,
}

/// Holds the calls of one verb at a hold point.
struct CallGate {
    at: HoldPoint,
    may_pass: u64,
    waiting: u64,
}

impl FakeHost {
    /// A host without containers that has every allowed image.
    #[must_use]
    pub fn new(config: ContainerConfig, clock: Clock) -> Self {
        let state = FakeState {
            instances: BTreeMap::new(),
            images: config.images.iter().cloned().collect(),
            calls: HashMap::new(),
            failures: HashMap::new(),
            latency: HashMap::new(),
            reachable: true,
            events: broadcast::channel(256).0,
            containers_made: 0,
            report: healthy_report(),
            load: idle_load(),
            image_ids: HashMap::new(),
            broken_images: HashMap::new(),
            clock,
        };
        Self { config, state: Arc::new(Mutex::new(state)), gates: watch::Sender::default() }
    }

    /// Holds every call of `verb` from now on, until [`FakeHost::let_one_pass`] or [`FakeHost::release`].
    pub fn hold(&self, verb: Verb, at: HoldPoint) {
        self.gates.send_modify(|gates| {
            gates.insert(verb, CallGate { at, may_pass: 0, waiting: 0 });
        });
    }

    /// Lets one held call of `verb` pass; if none is held, the next one.
    pub fn let_one_pass(&self, verb: Verb) {
        self.gates.send_modify(|gates| {
            gates.entry(verb).and_modify(|gate| gate.may_pass += 1);
        });
    }

    /// Releases all held calls of `verb`, and holds no more.
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

    /// The number of calls of `verb` that are held now.
    #[must_use]
    pub fn held(&self, verb: Verb) -> u64 {
        self.gates.borrow().get(&verb).map_or(0, |gate| gate.waiting)
    }

    /// Makes the next call of `verb` fail with `error`; called twice, the next two calls.
    pub fn fail_next(&self, verb: Verb, error: HostError) {
        self.state().failures.entry(verb).or_default().push(error);
    }

    /// Makes the host unreachable, and ends its event streams.
    pub fn cut_off(&self) {
        let mut state = self.state();
        state.reachable = false;
        state.events = broadcast::channel(256).0;
    }

    /// Undoes [`FakeHost::cut_off`].
    pub fn reconnect(&self) {
        self.state().reachable = true;
    }

    /// Delays every call of `verb` by `latency` from now on, on tokio's clock.
    pub fn delay(&self, verb: Verb, latency: Duration) {
        self.state().latency.insert(verb, latency);
    }

    /// The number of calls of `verb`, failed ones included.
    #[must_use]
    pub fn calls(&self, verb: Verb) -> usize {
        self.state().calls.get(&verb).copied().unwrap_or_default()
    }

    /// Ends the container, as a crash of its program or the out-of-memory killer does.
    pub fn crash(&self, instance: InstanceId, exit: ContainerExit) {
        let mut state = self.state();
        if let Some(container) = state.container(instance) {
            container.seen.state = ContainerState::Stopped;
            container.seen.exit = Some(exit);
        }
        state.tell(instance);
    }

    /// Sends an event about `instance`.
    pub fn emit(&self, instance: InstanceId) {
        self.state().tell(instance);
    }

    /// Removes the image from the host.
    pub fn forget_image(&self, image: &str) {
        self.state().images.remove(image);
    }

    /// Puts the image back on the host.
    pub fn load_image(&self, image: &str) {
        self.state().images.insert(image.to_owned());
    }

    /// Gives the image's name a new id, as a rebuild does.
    pub fn rebuild_image(&self, image: &str) {
        *self.state().image_ids.entry(image.to_owned()).or_default() += 1;
    }

    /// Makes containers of this image exit right after each start.
    pub fn breaks_when_started(&self, image_id: &str, exit: ContainerExit) {
        self.state().broken_images.insert(image_id.to_owned(), exit);
    }

    /// Whether a running container has this address.
    #[must_use]
    pub fn runs_at(&self, address: IpAddr) -> bool {
        let state = self.state();
        let mut containers = state.instances.values().filter_map(|there| there.container.as_ref());
        containers.any(|there| {
            there.seen.state == ContainerState::Running && there.spec.slot.address(self.config.subnet) == address
        })
    }

    /// Changes the answer of [`ContainerHost::load`].
    pub fn set_load(&self, change: impl FnOnce(&mut HostLoad)) {
        change(&mut self.state().load);
    }

    /// Changes the answer of [`ContainerHost::host_report`], except the missing images, which are computed.
    pub fn report_with(&self, change: impl FnOnce(&mut HostReport)) {
        change(&mut self.state().report);
    }

    /// The specification of the instance's container.
    #[must_use]
    pub fn spec(&self, instance: InstanceId) -> Option<ContainerSpec> {
        self.state().container(instance).map(|container| container.spec.clone())
    }

    /// Overwrites the volume, as the instance's program would.
    pub fn write(&self, instance: InstanceId, bytes: &[u8]) {
        if let Some(there) = self.state().instances.get_mut(&instance) {
            there.volume = Some(bytes.to_vec());
        }
    }

    /// The contents of the volume; `None` if it does not exist.
    #[must_use]
    pub fn read(&self, instance: InstanceId) -> Option<Vec<u8>> {
        self.state().instances.get(&instance)?.volume.clone()
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of every verb: counts the call, then delays, holds or fails it as the test configured.
    async fn enter(&self, verb: Verb) -> Result<(), HostError> {
        // A block of its own: the lock must not be held during the sleep.
        let latency = {
            let mut state = self.state();
            *state.calls.entry(verb).or_default() += 1;
            state.latency.get(&verb).copied()
        };
        if let Some(latency) = latency {
            tokio::time::sleep(latency).await;
        }
        self.pass(verb, HoldPoint::BeforeEffect).await;
        let mut state = self.state();
        if !state.reachable {
            return Err(HostError::Unreachable);
        }
        match state.failures.get_mut(&verb) {
            Some(failures) if !failures.is_empty() => Err(failures.remove(0)),
            _ => Ok(()),
        }
    }

    /// Waits while calls of `verb` are held at this point.
    async fn pass(&self, verb: Verb, at: HoldPoint) {
        // Lost wake-up: subscribed before the first check, so that a release in between is not missed.
        let mut gates = self.gates.subscribe();
        let mut waiting = None;
        while !self.may_pass(verb, at) {
            waiting.get_or_insert_with(|| HeldCall::begin(self, verb));
            if gates.changed().await.is_err() {
                return;
            }
        }
    }

    fn may_pass(&self, verb: Verb, at: HoldPoint) -> bool {
        let mut may = true;
        self.gates.send_if_modified(|gates| {
            let Some(gate) = gates.get_mut(&verb).filter(|gate| gate.at == at) else { return false };
            may = gate.may_pass > 0;
            gate.may_pass = gate.may_pass.saturating_sub(1);
            may
        });
        may
    }
}

/// Counts one held call in its gate. A guard, because the caller's timeout may cancel a held call.
struct HeldCall<'a>(&'a FakeHost, Verb);

impl<'a> HeldCall<'a> {
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

impl Drop for HeldCall<'_> {
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
        self.state().make_volume(instance)?;
        self.pass(Verb::EnsureVolume, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.enter(Verb::Create).await?;
        // The same checks as in the Engine's implementation, since both pass one contract test.
        if !self.config.images.contains(&spec.image) {
            return Err(HostError::Refused(format!("the image {} is not in BERTH_IMAGES", spec.image)));
        }
        known_size(&self.config, &spec.size)?;
        if spec.slot.bridge() >= u32::from(self.config.bridges) {
            return Err(HostError::Refused(format!("slot {} is past the last of the BERTH_BRIDGES", spec.slot.0)));
        }
        self.state().create(spec)?;
        self.pass(Verb::Create, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Start).await?;
        self.state().start(instance)?;
        self.pass(Verb::Start, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Freeze).await?;
        self.state().set_frozen_or_running(instance, ContainerState::Frozen)?;
        self.pass(Verb::Freeze, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Thaw).await?;
        self.state().set_frozen_or_running(instance, ContainerState::Running)?;
        self.pass(Verb::Thaw, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::Stop).await?;
        // The exit code of a program that SIGTERM ended: 128 + 15.
        self.state().bring(instance, ContainerState::Stopped, Some(ContainerExit { code: 143, out_of_memory: false }));
        self.pass(Verb::Stop, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::RemoveContainer).await?;
        self.state().remove_container(instance);
        self.pass(Verb::RemoveContainer, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::BuryVolume).await?;
        self.state().bury(instance);
        self.pass(Verb::BuryVolume, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::UnburyVolume).await?;
        self.state().unbury(instance);
        self.pass(Verb::UnburyVolume, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.enter(Verb::DestroyVolume).await?;
        self.state().destroy_volume(instance, self.config.delete_after)?;
        self.pass(Verb::DestroyVolume, HoldPoint::AfterEffect).await;
        Ok(())
    }

    async fn inspect(&self, instance: InstanceId) -> Result<ObservedInstance, HostError> {
        self.enter(Verb::Inspect).await?;
        let seen = self.state().seen(instance);
        self.pass(Verb::Inspect, HoldPoint::AfterEffect).await;
        Ok(seen)
    }

    async fn list(&self) -> Result<Vec<ObservedInstance>, HostError> {
        self.enter(Verb::List).await?;
        let seen = self.state().all();
        self.pass(Verb::List, HoldPoint::AfterEffect).await;
        Ok(seen)
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        self.enter(Verb::Events).await?;
        let events = BroadcastStream::new(self.state().events.subscribe());
        // Events are hints, so those that a slow subscriber missed are skipped.
        Ok(events.filter_map(|event| std::future::ready(event.ok())).boxed())
    }

    async fn load(&self) -> Result<HostLoad, HostError> {
        self.enter(Verb::Load).await?;
        Ok(self.state().load.clone())
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        self.enter(Verb::HostReport).await?;
        let state = self.state();
        let missing = self.config.images.iter().filter(|image| !state.images.contains(*image));
        let missing_images = missing.cloned().collect();
        let disk_limit = self.config.disk_limit;
        Ok(HostReport { missing_images, disk_limit, buried: state.buried(), ..state.report.clone() })
    }
}

fn known_size(config: &ContainerConfig, size: &str) -> Result<(), HostError> {
    config.size(size).map(|_| ()).ok_or_else(|| HostError::Refused(format!("the size {size} is not in BERTH_SIZES")))
}
