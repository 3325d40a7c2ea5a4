//! Samples of the processor time that containers used.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_containers::HostLoad;
use berth_ground::clock::Timestamp;

/// The last sample and the floor above which processor time counts as work.
pub(super) struct ProcessorUsage {
    pub(super) floor_percent: u32,
    before: Mutex<Option<ProcessorSample>>,
}

/// The cumulative processor time of each container at one moment, by the engine's id.
pub(super) struct ProcessorSample {
    pub(super) at: Timestamp,
    used: HashMap<String, Duration>,
}

impl ProcessorUsage {
    pub(super) fn new(floor_percent: u32) -> Self {
        Self { floor_percent, before: Mutex::new(None) }
    }

    pub(super) fn before(&self) -> MutexGuard<'_, Option<ProcessorSample>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProcessorSample {
    pub(super) fn of(load: &HostLoad, at: Timestamp) -> Self {
        Self { at, used: load.containers.iter().map(|container| (container.id.clone(), container.cpu)).collect() }
    }

    /// Whether `container` used more than `floor_percent` of one core since `before`. False when either sample lacks
    /// the container, or the clock was set back: the usage is unknown then.
    pub(super) fn is_busy(&self, container: &str, before: &Self, floor_percent: u32) -> bool {
        let (Some(now), Some(then)) = (self.used.get(container), before.used.get(container)) else { return false };
        let floor = self.at.since(before.at) * floor_percent / 100;
        !floor.is_zero() && now.saturating_sub(*then) > floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, used_ms: u64) -> ProcessorSample {
        let used = HashMap::from([("a".to_owned(), Duration::from_millis(used_ms))]);
        ProcessorSample { at: Timestamp(second * 1000), used }
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
