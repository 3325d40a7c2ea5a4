//! What is there in the world of [`super::FakeHost`], and what the verbs do to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::broadcast;

use super::Verb;
use crate::clock::Clock;
use crate::containers::{ContainerSpec, ContainerState, Exit, HostError, HostLoad, Seen, SeenContainer};
use crate::db::InstanceId;
use crate::secrets::{hash, hex};

pub(super) struct World {
    pub instances: BTreeMap<InstanceId, Place>,
    pub images: HashSet<String>,
    pub calls: HashMap<Verb, usize>,
    pub failures: HashMap<Verb, Vec<HostError>>,
    pub latency: HashMap<Verb, Duration>,
    pub reachable: bool,
    pub events: broadcast::Sender<InstanceId>,
    pub containers_made: u64,
    pub load: HostLoad,
    /// What each image's name means.
    pub image_ids: HashMap<String, u64>,
    /// Images whose program ends right after its start.
    pub broken_images: HashMap<String, Exit>,
    pub clock: Clock,
}

#[derive(Default)]
pub(super) struct Place {
    pub volume: bool,
    pub container: Option<Container>,
}

pub(super) struct Container {
    pub spec: ContainerSpec,
    pub seen: SeenContainer,
    pub image_before: Option<String>,
}

impl World {
    pub fn container(&mut self, instance: InstanceId) -> Option<&mut Container> {
        self.instances.get_mut(&instance)?.container.as_mut()
    }

    pub fn tell(&self, instance: InstanceId) {
        // Nobody watching is no failure.
        let _ = self.events.send(instance);
    }

    /// Brings a container to `state` if it is not there yet, and tells.
    pub fn bring(&mut self, instance: InstanceId, state: ContainerState, exit: Option<Exit>) {
        let Some(container) = self.container(instance) else { return };
        if container.seen.state != state {
            container.seen.state = state;
            container.seen.exit = exit;
            self.tell(instance);
        }
    }

    /// Starts a stopped container; one that runs or is frozen is left alone.
    pub fn start(&mut self, instance: InstanceId) -> Result<(), HostError> {
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

    /// Freezes or thaws a container that runs.
    pub fn between(&mut self, instance: InstanceId, state: ContainerState) -> Result<(), HostError> {
        match self.state(instance) {
            None => return Err(HostError::NotFound),
            Some(ContainerState::Stopped) => return Err(HostError::Failed("the container does not run".into())),
            Some(_) => self.bring(instance, state, None),
        }
        Ok(())
    }

    pub fn remove_container(&mut self, instance: InstanceId) {
        if self.instances.get_mut(&instance).is_some_and(|place| place.container.take().is_some()) {
            self.tell(instance);
        }
    }

    pub fn state(&mut self, instance: InstanceId) -> Option<ContainerState> {
        self.container(instance).map(|container| container.seen.state)
    }

    /// Makes the container if none is there that was made with the same.
    pub fn create(&mut self, spec: &ContainerSpec) -> Result<(), HostError> {
        if !self.images.contains(&spec.image) {
            return Err(HostError::ImageMissing(spec.image.clone()));
        }
        let wanted = spec.image_id.clone().unwrap_or_else(|| self.image_id(&spec.image));
        let before =
            self.container(spec.instance).map(|there| (there.seen.image_id.clone(), there.image_before.clone()));
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
        format!("sha256:{}", hex(&hash(&format!("{image} {:?}", self.image_ids.get(image)))))
    }

    pub fn make(&mut self, spec: &ContainerSpec, image_id: String, image_before: Option<String>) {
        self.containers_made += 1;
        let seen = SeenContainer {
            id: format!("fake-{}", self.containers_made),
            state: ContainerState::Stopped,
            image: spec.image.clone(),
            image_id,
            newest_image_id: String::new(),
            size: spec.size.clone(),
            current: true,
            made_at: self.clock.now(),
            slot: spec.slot,
            token_hash: hex(&hash(&spec.token)),
            exit: None,
        };
        let place = self.instances.entry(spec.instance).or_default();
        // As on the Engine, a container brings the volume it mounts.
        place.volume = true;
        place.container = Some(Container { spec: spec.clone(), seen, image_before });
        self.tell(spec.instance);
    }

    pub fn all(&self) -> Vec<Seen> {
        let there = self.instances.iter().filter(|(_, place)| place.volume || place.container.is_some());
        there.map(|(instance, _)| self.seen(*instance)).collect()
    }

    pub fn seen(&self, instance: InstanceId) -> Seen {
        let place = self.instances.get(&instance);
        Seen {
            instance,
            volume: place.is_some_and(|place| place.volume),
            container: place.and_then(|place| place.container.as_ref()).map(|container| SeenContainer {
                current: container.seen.image_id == self.image_id(&container.seen.image),
                newest_image_id: self.image_id(&container.seen.image),
                ..container.seen.clone()
            }),
        }
    }
}

/// A host that wants for nothing.
pub(super) fn plenty() -> HostLoad {
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
