//! Processor time as activity: samples each container's CPU usage, so that a program that computes without any request
//! in flight is not idle.

use std::sync::Arc;
use std::time::Duration;

use berth_containers::HostLoad;

use super::processor_usage::ProcessorSample;
use super::{Instance, Instances, Work};

/// The longest sampling interval: long enough that a short burst is averaged away.
const SAMPLE: Duration = Duration::from_secs(15);
/// Samples within the shortest idle timeout of any size, so that continuous computation is always seen before it
/// expires.
const SAMPLES_BEFORE_SLEEP: u32 = 3;

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
