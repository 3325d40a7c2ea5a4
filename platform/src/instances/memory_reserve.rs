//! The memory of the host that must stay free, and the starts that may run at once.

use berth_containers::HostLoad;
use tokio::sync::Semaphore;

/// Memory pressure (PSI `some avg10`, in percent) from which instances are evicted.
const PRESSURE_PERCENT: f64 = 10.0;

/// The limits: concurrent starts, and memory to keep free.
pub(super) struct MemoryReserve {
    /// Tokio's semaphore is fair: starts are admitted in the order in which they were requested.
    pub(super) starts: Semaphore,
    reserve_percent: u32,
}

impl MemoryReserve {
    pub(super) fn new(starts_at_once: u32, reserve_percent: u32) -> Self {
        let starts = usize::try_from(starts_at_once).unwrap_or(Semaphore::MAX_PERMITS);
        Self { starts: Semaphore::new(starts), reserve_percent }
    }

    /// The bytes missing to the reserve; zero when there is no pressure.
    pub(super) fn missing(&self, load: &HostLoad) -> u64 {
        let reserve = load.memory_total / 100 * u64::from(self.reserve_percent);
        let missing = reserve.saturating_sub(load.memory_available);
        // Processes stall on memory although the reserve is free. One byte stands for "evict one instance"; the next
        // round measures again.
        let waits = load.memory_pressure.is_some_and(|percent| percent >= PRESSURE_PERCENT);
        missing.max(u64::from(waits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
