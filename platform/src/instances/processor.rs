//! Processor time as work: what a container used since the last sample says whether its program is at something although
//! nobody asks it anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Instance, Instances, Work};
use crate::clock::Timestamp;
use crate::containers::HostLoad;

/// What was last seen.
pub(super) struct Processors {
    floor_percent: u32,
    before: Mutex<Option<Sample>>,
}

/// What each container had used at a moment, by the Engine's id.
struct Sample {
    at: Timestamp,
    used: HashMap<String, Duration>,
}

impl Processors {
    pub(super) fn new(floor_percent: u32) -> Self {
        Self { floor_percent, before: Mutex::new(None) }
    }
}

impl Instances {
    /// Takes one sample: who used more than the floor since the last one is at work. Public so that whoever moves a
    /// manual clock can have its effect now.
    pub fn note_processors(&self, load: HostLoad) {
        let sample = Sample::of(load, self.0.clock.now());
        let mut before = self.0.processors.before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before.as_ref() {
            for instance in self.up() {
                let busy =
                    instance.container().is_some_and(|id| sample.is_busy(&id, before, self.0.processors.floor_percent));
                if busy {
                    instance.work.moved(Work::Processor, sample.at);
                }
            }
        }
        *before = Some(sample);
    }

    fn up(&self) -> Vec<Arc<Instance>> {
        self.known(|known| known.by_id.values().filter(|instance| instance.is_up()).cloned().collect())
    }
}

impl Sample {
    fn of(load: HostLoad, at: Timestamp) -> Self {
        Self { at, used: load.containers.into_iter().map(|container| (container.id, container.cpu)).collect() }
    }

    /// Whether `container` used more than `floor_percent` of one core since `before`. Where the clock went back, or the
    /// container was not there, nothing is known.
    fn is_busy(&self, container: &str, before: &Self, floor_percent: u32) -> bool {
        let (Some(now), Some(then)) = (self.used.get(container), before.used.get(container)) else { return false };
        let floor = self.at.since(before.at) * floor_percent / 100;
        !floor.is_zero() && now.saturating_sub(*then) > floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, used_ms: u64) -> Sample {
        let used = HashMap::from([("a".to_owned(), Duration::from_millis(used_ms))]);
        Sample { at: Timestamp(second * 1000), used }
    }

    #[test]
    fn only_what_is_above_the_floor_is_work() {
        let before = sample(0, 10_000);
        for (sentence, at, used_ms, busy) in [
            ("an idle server", 15, 10_030, false),
            ("exactly the floor", 15, 10_750, false),
            ("a build", 15, 25_000, true),
            ("a program that was started anew", 15, 5_000, false),
            ("the clock went back", -3600, 25_000, false),
        ] {
            assert_eq!(sample(at, used_ms).is_busy("a", &before, 5), busy, "{sentence}");
        }
        assert!(!sample(15, 25_000).is_busy("b", &before, 5), "nothing is known of it");
    }
}
