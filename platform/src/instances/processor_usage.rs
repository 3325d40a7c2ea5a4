//! Processor time as activity: samples each container's CPU usage, so that a program that computes without any request
//! in flight is not idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Instance, Instances, Work};
use crate::clock::Timestamp;
use crate::containers::HostLoad;

/// The longest sampling interval: long enough that a short burst is averaged away.
const SAMPLE: Duration = Duration::from_secs(15);
/// Samples within the shortest idle timeout of any size, so that continuous computation is always seen before it
/// expires.
const SAMPLES_BEFORE_SLEEP: u32 = 3;

/// The last sample and the floor above which processor time counts as work.
pub(super) struct ProcessorUsage {
    floor_percent: u32,
    before: Mutex<Option<ProcessorSample>>,
}

/// The cumulative processor time of each container at one moment, by the engine's id.
struct ProcessorSample {
    at: Timestamp,
    used: HashMap<String, Duration>,
}

impl ProcessorUsage {
    pub(super) fn new(floor_percent: u32) -> Self {
        Self { floor_percent, before: Mutex::new(None) }
    }

    fn before(&self) -> MutexGuard<'_, Option<ProcessorSample>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instances {
    /// Takes `load` as a sample if the sampling interval has passed.
    pub(super) fn note_processors_when_due(&self, load: &HostLoad) {
        let shortest = self.0.sizes.iter().map(|size| size.freeze_after).min().unwrap_or(SAMPLE * SAMPLES_BEFORE_SLEEP);
        let every = SAMPLE.min(shortest / SAMPLES_BEFORE_SLEEP);
        let now = self.0.clock.now();
        // A sample from the future, after the clock was set back, is replaced.
        let is_fresh = |before: &ProcessorSample| before.at <= now && now.since(before.at) < every;
        if !self.0.processors.before().as_ref().is_some_and(is_fresh) {
            self.note_processors(load);
        }
    }

    /// Takes `load` as a sample: an instance that used more than the floor since the last sample counts as working.
    /// Public so that code that advances a manual clock can trigger a sample at once.
    pub fn note_processors(&self, load: &HostLoad) {
        let sample = ProcessorSample::of(load, self.0.clock.now());
        let mut before = self.0.processors.before();
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

impl ProcessorSample {
    fn of(load: &HostLoad, at: Timestamp) -> Self {
        Self { at, used: load.containers.iter().map(|container| (container.id.clone(), container.cpu)).collect() }
    }

    /// Whether `container` used more than `floor_percent` of one core since `before`. False when either sample lacks
    /// the container, or the clock was set back: the usage is unknown then.
    fn is_busy(&self, container: &str, before: &Self, floor_percent: u32) -> bool {
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
