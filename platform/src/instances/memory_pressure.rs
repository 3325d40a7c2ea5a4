//! The host's memory: who sleeps sooner when there is little, and who may start.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::rules::{Fact, MemoryPressure};
use super::{Instance, Instances};
use crate::clock::Timestamp;
use crate::containers::HostLoad;
use crate::db::InstanceId;

/// How often the host is asked how it is doing.
const LOOK: Duration = Duration::from_secs(5);
/// Processes that wait for memory this share of the time, in percent, are too many.
const PRESSURE_PERCENT: f64 = 10.0;
/// Instances put to sleep in one round: memory takes a moment to come back, and more of it may than was expected.
const MOST_AT_ONCE: usize = 8;
/// A frozen instance that holds less than this, in bytes, gives nothing back by being stopped.
const WORTH_STOPPING: u64 = 8 << 20;
/// Streams and sockets on which something moved this short a time ago are in flight.
const QUIET: Duration = Duration::from_secs(10);
/// How long a start waits for others to make room.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
const ROOM_LOOK: Duration = Duration::from_millis(250);

/// How many may start at once, and what must stay free.
pub(super) struct MemoryReserve {
    /// Fair: first asked, first started.
    starts: Semaphore,
    reserve_percent: u32,
}

/// One that could sleep.
struct SleepCandidate {
    id: InstanceId,
    active_at: Timestamp,
    awake: bool,
    /// Bytes of the host's memory.
    memory: u64,
}

impl MemoryReserve {
    pub(super) fn new(starts_at_once: u32, reserve_percent: u32) -> Self {
        let starts = usize::try_from(starts_at_once).unwrap_or(Semaphore::MAX_PERMITS);
        Self { starts: Semaphore::new(starts), reserve_percent }
    }

    /// How many bytes are missing to what must stay free; zero when all is well.
    fn missing(&self, load: &HostLoad) -> u64 {
        let reserve = load.memory_total / 100 * u64::from(self.reserve_percent);
        let missing = reserve.saturating_sub(load.memory_available);
        // Waiting for memory although some is free: a little more may end it, and the next round looks again.
        let waits = load.memory_pressure.is_some_and(|percent| percent >= PRESSURE_PERCENT);
        missing.max(u64::from(waits))
    }
}

impl Instances {
    /// Looks at the host every few seconds, and puts to sleep who was used longest ago when its memory runs short.
    pub(super) async fn follow_load(self) {
        let mut look = tokio::time::interval(LOOK);
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

    /// Waits for a turn to start an instance, and for room to start it in. `None`: no room came in time.
    pub(super) async fn admit_start(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.0.memory.starts.acquire().await.expect("it is never closed");
        let room = async {
            // A host that does not say how it is doing is no reason to start nothing.
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

    /// Puts as many instances to sleep as are needed, except those with work in flight. Public so that a story can
    /// trigger it at once.
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

fn sleeper(instance: &Instance, load: &HostLoad, now: Timestamp) -> Option<SleepCandidate> {
    let awake = match instance.fact() {
        Fact::Awake => true,
        Fact::Frozen => false,
        _ => return None,
    };
    let asleep_soon = instance.pressure().is_some_and(|pressure| awake || pressure == MemoryPressure::Stop);
    // Open streams and sockets do not keep an instance awake, but recent traffic on them counts as in flight.
    let in_flight = instance.is_at_work(now) || (awake && now.since(instance.active_at()) < QUIET);
    if asleep_soon || in_flight {
        return None;
    }
    let container = instance.container()?;
    let memory = load.containers.iter().find(|c| *c.id == *container).map_or(0, |c| c.memory);
    Some(SleepCandidate { id: instance.id, active_at: instance.active_at(), awake, memory })
}

/// The instances that should sleep, and how deeply, to free `missing` bytes: least recently used first; frozen where
/// swap takes the memory, because a frozen instance is cheaper to wake, else stopped.
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

    #[test]
    fn a_host_is_short_below_its_reserve_or_when_processes_wait() {
        let memory = MemoryReserve::new(1, 10);
        let load = |available, pressure| HostLoad {
            memory_total: 1000,
            memory_available: available,
            swap_total: 0,
            swap_free: 0,
            memory_pressure: pressure,
            containers: Vec::new(),
        };
        for (load, missing) in
            [(load(500, None), 0), (load(100, Some(0.0)), 0), (load(40, Some(0.0)), 60), (load(500, Some(12.5)), 1)]
        {
            assert_eq!(memory.missing(&load), missing, "{load:?}");
        }
    }
}
