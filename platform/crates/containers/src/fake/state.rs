//! The state of [`super::FakeHost`], and the effect of each verb on it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::ids::InstanceId;
use berth_ground::secrets::hash;
use tokio::sync::broadcast;

use super::verb::Verb;
use crate::config::DiskLimit;
use crate::{
    ConfigurationDrift, ContainerExit, ContainerSpec, ContainerState, DiskUsage, HostError, HostLoad, HostReport,
    ObservedContainer, ObservedInstance,
};

pub(super) struct FakeState {
    pub instances: BTreeMap<InstanceId, FakeInstance>,
    pub images: HashSet<String>,
    pub calls: HashMap<Verb, usize>,
    pub failures: HashMap<Verb, Vec<HostError>>,
    pub latency: HashMap<Verb, Duration>,
    pub reachable: bool,
    pub events: broadcast::Sender<InstanceId>,
    pub containers_made: u64,
    pub load: HostLoad,
    pub report: HostReport,
    /// Counts the rebuilds of each image, from which its id is derived.
    pub image_ids: HashMap<String, u64>,
    /// Image ids whose containers exit right after their start.
    pub broken_images: HashMap<String, ContainerExit>,
    pub clock: Clock,
}

#[derive(Default)]
pub(super) struct FakeInstance {
    /// The contents; `None` if the volume does not exist.
    pub volume: Option<Vec<u8>>,
    pub buried_at: Option<Timestamp>,
    pub container: Option<FakeContainer>,
}

pub(super) struct FakeContainer {
    pub spec: ContainerSpec,
    pub seen: ObservedContainer,
    pub image_before: Option<String>,
}

impl FakeState {
    pub fn container(&mut self, instance: InstanceId) -> Option<&mut FakeContainer> {
        self.instances.get_mut(&instance)?.container.as_mut()
    }

    pub fn tell(&self, instance: InstanceId) {
        // Sending fails only without subscribers, which is not a failure here.
        let _ = self.events.send(instance);
    }

    /// Changes the state of the container, and sends an event if the state differs.
    pub fn bring(&mut self, instance: InstanceId, state: ContainerState, exit: Option<ContainerExit>) {
        let Some(container) = self.container(instance) else { return };
        if container.seen.state != state {
            container.seen.state = state;
            container.seen.exit = exit;
            self.tell(instance);
        }
    }

    /// Starts a stopped container; does nothing to a running or frozen one.
    pub fn start(&mut self, instance: InstanceId) -> Result<(), HostError> {
        self.refuse_if_buried(instance)?;
        match self.state(instance) {
            None => return Err(HostError::NotFound),
            Some(ContainerState::Running | ContainerState::Frozen) => {}
            Some(ContainerState::Stopped) => {
                self.bring(instance, ContainerState::Running, None);
                let image = self.container(instance).map(|there| there.seen.image_id.clone()).unwrap_or_default();
                if let Some(exit) = self.broken_images.get(&image).copied() {
                    self.bring(instance, ContainerState::Stopped, Some(exit));
                }
            }
        }
        Ok(())
    }

    /// Freezes or thaws a container that is not stopped.
    pub fn set_frozen_or_running(&mut self, instance: InstanceId, state: ContainerState) -> Result<(), HostError> {
        match self.state(instance) {
            None => return Err(HostError::NotFound),
            Some(ContainerState::Stopped) => return Err(HostError::Failed("the container does not run".into())),
            Some(_) => self.bring(instance, state, None),
        }
        Ok(())
    }

    pub fn remove_container(&mut self, instance: InstanceId) {
        if self.instances.get_mut(&instance).is_some_and(|there| there.container.take().is_some()) {
            self.tell(instance);
        }
    }

    pub fn state(&mut self, instance: InstanceId) -> Option<ContainerState> {
        self.container(instance).map(|container| container.seen.state)
    }

    /// Creates the container, unless one with the same specification exists.
    pub fn create(&mut self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.refuse_if_buried(spec.instance)?;
        if !self.images.contains(&spec.image) {
            return Err(HostError::ImageMissing(spec.image.clone()));
        }
        let wanted = spec.image_id.clone().unwrap_or_else(|| self.image_id(&spec.image));
        let before =
            self.container(spec.instance).map(|there| (there.seen.image_id.clone(), there.image_before.clone()));
        // As on the Engine, a rollback may name only the current image or the previous one.
        let ids = before.iter().flat_map(|(now, before)| [Some(now), before.as_ref()]);
        if spec.image_id.as_ref().is_some_and(|id| !ids.flatten().any(|known| known == id)) {
            return Err(HostError::Refused("an image by its id is for going back from an upgrade only".into()));
        }
        if self.container(spec.instance).is_none_or(|there| there.spec != *spec || there.seen.image_id != wanted) {
            self.make(spec, wanted, before.map(|(now, _)| now));
        }
        Ok(())
    }

    pub fn image_id(&self, image: &str) -> String {
        format!("sha256:{}", hex::encode(hash(&format!("{image} {:?}", self.image_ids.get(image)))))
    }

    pub fn make(&mut self, spec: &ContainerSpec, image_id: String, image_before: Option<String>) {
        self.containers_made += 1;
        let seen = ObservedContainer {
            id: format!("fake-{}", self.containers_made),
            state: ContainerState::Stopped,
            image: spec.image.clone(),
            image_id,
            newest_image_id: String::new(),
            size: spec.size.clone(),
            current: true,
            made_at: self.clock.now(),
            slot: spec.slot,
            token_hash: hex::encode(hash(&spec.token)),
            exit: None,
        };
        let there = self.instances.entry(spec.instance).or_default();
        // Like the Engine, which creates a missing volume with the container that mounts it.
        there.volume.get_or_insert_default();
        there.container = Some(FakeContainer { spec: spec.clone(), seen, image_before });
        self.tell(spec.instance);
    }

    pub fn make_volume(&mut self, instance: InstanceId) -> Result<(), HostError> {
        self.refuse_if_buried(instance)?;
        self.instances.entry(instance).or_default().volume.get_or_insert_default();
        Ok(())
    }

    pub fn bury(&mut self, instance: InstanceId) {
        let now = self.clock.now();
        self.instances.entry(instance).or_default().buried_at.get_or_insert(now);
    }

    pub fn unbury(&mut self, instance: InstanceId) {
        if let Some(there) = self.instances.get_mut(&instance) {
            there.buried_at = None;
        }
    }

    pub fn buried(&self) -> u32 {
        let buried = self.instances.values().filter(|there| there.buried_at.is_some()).count();
        u32::try_from(buried).unwrap_or(u32::MAX)
    }

    fn refuse_if_buried(&self, instance: InstanceId) -> Result<(), HostError> {
        match self.instances.get(&instance).and_then(|there| there.buried_at) {
            Some(_) => Err(HostError::Refused("its volume waits to be destroyed".into())),
            None => Ok(()),
        }
    }

    /// Destroys a volume if its tombstone is at least `after` old.
    pub fn destroy_volume(&mut self, instance: InstanceId, after: Duration) -> Result<(), HostError> {
        let due = self.clock.now().minus(after);
        let refused = |why: &str| Err(HostError::Refused(why.into()));
        // In the order of the Engine's implementation: tombstone, its date, container.
        match self.instances.get(&instance) {
            None | Some(FakeInstance { container: None, volume: None, buried_at: None }) => return Ok(()),
            Some(FakeInstance { buried_at: None, .. }) => return refused("it was never buried"),
            Some(FakeInstance { buried_at: Some(at), .. }) if *at > due => {
                return refused("it is to be kept for some time");
            }
            Some(FakeInstance { container: Some(_), .. }) => return refused("there is a container on it"),
            Some(_) => {}
        }
        self.instances.remove(&instance);
        Ok(())
    }

    pub fn all(&self) -> Vec<ObservedInstance> {
        let there = self.instances.iter().filter(|(_, there)| there.volume.is_some() || there.container.is_some());
        there.map(|(instance, _)| self.seen(*instance)).collect()
    }

    pub fn seen(&self, instance: InstanceId) -> ObservedInstance {
        let there = self.instances.get(&instance);
        ObservedInstance {
            instance,
            volume: there.is_some_and(|there| there.volume.is_some()),
            container: there.and_then(|there| there.container.as_ref()).map(|container| ObservedContainer {
                current: container.seen.image_id == self.image_id(&container.seen.image),
                newest_image_id: self.image_id(&container.seen.image),
                ..container.seen.clone()
            }),
        }
    }
}

/// The load of an idle host.
pub(super) fn idle_load() -> HostLoad {
    let total = 16 << 30;
    HostLoad {
        memory_total: total,
        memory_available: total / 2,
        swap_total: total,
        swap_free: total,
        memory_pressure: Some(0.0),
        containers: Vec::new(),
    }
}

/// The report of a host without findings.
pub(super) fn healthy_report() -> HostReport {
    HostReport {
        engine_version: "29.0.0".into(),
        cgroup_version: 2,
        swap_mib: 1024,
        runc_version: "1.3.3".into(),
        storage_driver: "overlay2".into(),
        disk_limit: DiskLimit::None,
        disks: vec![DiskUsage { holds: "everything".into(), used_percent: 50, inodes_used_percent: 10 }],
        buried: 0,
        missing_images: Vec::new(),
        other_images: Vec::new(),
        kernel_release: "6.18.0".into(),
        kernel_age_days: Some(7),
        runtimes: vec!["runc".into(), "runsc".into()],
        security_options: vec!["apparmor".into(), "seccomp".into()],
        live_restore: true,
        egress: Ok(()),
        neighbours: Ok(()),
        containers: ConfigurationDrift::default(),
    }
}
