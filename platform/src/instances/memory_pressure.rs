//! Memory pressure: eviction of the least recently used instances when the host runs short of memory, and admission
//! control for starts.

use std::time::Duration;

use berth_containers::HostLoad;
use berth_ground::clock::Timestamp;
use tokio::sync::SemaphorePermit;

use super::rules::{Fact, MemoryPressure};
use super::{Instance, Instances};
use crate::db::InstanceId;

/// Polling interval of the host's load.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of evictions in one round: memory is freed with a delay, and may be more than estimated.
const MOST_AT_ONCE: usize = 8;
/// A frozen instance with less resident memory than this, in bytes, is not worth stopping.
const WORTH_STOPPING: u64 = 8 << 20;
/// Streams and sockets with traffic within this time count as in flight.
const QUIET: Duration = Duration::from_secs(10);
/// How long a start waits for evictions to free memory.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
const ROOM_LOOK: Duration = Duration::from_millis(250);

/// A candidate for eviction.
struct SleepCandidate {
    id: InstanceId,
    active_at: Timestamp,
    awake: bool,
    /// Resident memory in bytes.
    memory: u64,
}

impl Instances {
    /// Polls the host's load until the task is aborted: samples processor time, and evicts when memory runs short.
    pub(super) async fn follow_load(self) {
        let mut look = tokio::time::interval(POLL_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            match self.0.host.load().await {
                Ok(load) => {
                    self.note_processors_when_due(&load);
                    self.relieve(&load);
                }
                Err(error) => tracing::debug!(%error, "the host does not say how it is doing"),
            }
        }
    }

    /// Admission control: waits for one of the concurrent starts and for free memory. The permit must be held until the
    /// start is over. `None`: no memory was freed in time.
    pub(super) async fn await_start_permit(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.0.memory.starts.acquire().await.expect("it is never closed");
        let room = async {
            // Fails open: a host that cannot report its load must not block every start.
            while let Ok(load) = self.0.host.load().await {
                if self.0.memory.missing(&load) == 0 {
                    return;
                }
                self.relieve(&load);
                tokio::time::sleep(ROOM_LOOK).await;
            }
        };
        tokio::time::timeout(ROOM_WITHIN, room).await.is_ok().then_some(turn)
    }

    /// Evicts as many instances as needed, never one with work in flight. Public so that a test can trigger it at once.
    pub fn relieve(&self, load: &HostLoad) {
        let missing = self.0.memory.missing(load);
        if missing == 0 {
            return;
        }
        let now = self.0.clock.now();
        let sleepers = self.all().iter().filter_map(|instance| sleeper(instance, load, now)).collect();
        for (id, pressure) in relief(missing, load.swap_free, sleepers) {
            let Some(instance) = self.by_id(id) else { continue };
            tracing::info!(instance.id = %id, handle = %instance.handle, ?pressure, "the host runs short of memory");
            instance.put_under_pressure(now, pressure);
            self.nudge(&instance);
        }
    }
}

/// The instance as a candidate for eviction; `None` when it is transient, stopped, being evicted already, or in use.
fn sleeper(instance: &Instance, load: &HostLoad, now: Timestamp) -> Option<SleepCandidate> {
    let awake = match instance.fact() {
        Fact::Awake => true,
        Fact::Frozen => false,
        _ => return None,
    };
    let asleep_soon = instance.pressure().is_some_and(|pressure| awake || pressure == MemoryPressure::Stop);
    // Open streams and sockets do not keep an instance awake, but recent traffic on them counts as in flight here: an
    // eviction must not interrupt a transfer.
    let in_flight = instance.is_at_work(now) || (awake && now.since(instance.active_at()) < QUIET);
    if asleep_soon || in_flight {
        return None;
    }
    let container = instance.container()?;
    let memory = load.containers.iter().find(|c| *c.id == *container).map_or(0, |c| c.memory);
    Some(SleepCandidate { id: instance.id, active_at: instance.active_at(), awake, memory })
}

/// Chooses the evictions that free `missing` bytes, least recently used first. An instance is frozen where swap can
/// take its memory, because that is cheaper to wake, and stopped otherwise.
fn relief(missing: u64, swap_free: u64, mut sleepers: Vec<SleepCandidate>) -> Vec<(InstanceId, MemoryPressure)> {
    sleepers.sort_by_key(|sleeper| sleeper.active_at);
    let (mut freed, mut swap) = (0, swap_free);
    let mut chosen = Vec::new();
    for sleeper in sleepers {
        if freed >= missing || chosen.len() == MOST_AT_ONCE {
            break;
        }
        if sleeper.awake && swap > sleeper.memory {
            swap -= sleeper.memory;
            chosen.push((sleeper.id, MemoryPressure::Freeze));
        } else if sleeper.awake || sleeper.memory >= WORTH_STOPPING {
            chosen.push((sleeper.id, MemoryPressure::Stop));
        } else {
            continue;
        }
        // At least one byte: candidates of unknown size would otherwise count as nothing, and too many would be chosen.
        freed += sleeper.memory.max(1);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sleeper(id: u128, active_at: i64, awake: bool, mib: u64) -> SleepCandidate {
        SleepCandidate {
            id: InstanceId(uuid::Uuid::from_u128(id)),
            active_at: Timestamp(active_at),
            awake,
            memory: mib * MIB,
        }
    }

    fn chosen(missing_mib: u64, swap_mib: u64, sleepers: Vec<SleepCandidate>) -> Vec<(u128, MemoryPressure)> {
        let relief = relief(missing_mib * MIB, swap_mib * MIB, sleepers);
        relief.into_iter().map(|(id, pressure)| (id.0.as_u128(), pressure)).collect()
    }

    #[test]
    fn who_was_used_longest_ago_sleeps_first_and_no_more_than_needed() {
        let three = || vec![sleeper(1, 30, true, 100), sleeper(2, 10, true, 100), sleeper(3, 20, true, 100)];
        assert_eq!(chosen(1, 1000, three()), [(2, MemoryPressure::Freeze)]);
        assert_eq!(chosen(150, 1000, three()), [(2, MemoryPressure::Freeze), (3, MemoryPressure::Freeze)]);
        assert_eq!(chosen(1000, 1000, three()).len(), 3);
    }

    #[test]
    fn without_swap_they_stop_and_what_is_frozen_gives_way_too() {
        let some = vec![sleeper(1, 10, false, 100), sleeper(2, 20, true, 100), sleeper(3, 5, false, 1)];
        assert_eq!(chosen(1000, 0, some), [(1, MemoryPressure::Stop), (2, MemoryPressure::Stop)]);
    }
}
