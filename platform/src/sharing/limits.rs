//! How often strangers may look, and how often they may wake. Kept in memory: a restart forgives, which is bounded by
//! how often Berth restarts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::client::limit_key;
use crate::clock::{Clock, Ticks, Timestamp};
use crate::db::InstanceId;
use crate::error::{Error, Result};

/// Requests that strangers from one address may send in a minute, and at once: several people behind one address, each
/// with a page of many parts.
const REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("six hundred is not zero");
/// Wakes of one instance for strangers in an hour, and in a row. Each keeps it awake as a visit does, five minutes
/// unless told otherwise: a place that people come to all day is awake all day, and a crowd of crawlers starts nothing
/// more often.
const WAKES_PER_HOUR: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
/// Strangers who come within this time of the first are woken for together: he has not been served yet.
const TOGETHER: Duration = Duration::from_secs(10);
/// Addresses remembered before those with nothing to remember are dropped.
const REMEMBERED: usize = 10_000;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, Ticks, NoOpMiddleware<Nanos>>;

pub(super) struct Limits {
    addresses: Keyed<IpAddr>,
    wakes: Keyed<InstanceId>,
    /// When each was last woken for a stranger.
    woken: Mutex<HashMap<InstanceId, Timestamp>>,
    clock: Clock,
    ticks: Ticks,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        let ticks = Ticks(clock.clone());
        Self {
            addresses: RateLimiter::hashmap_with_clock(Quota::per_minute(REQUESTS_PER_MINUTE), ticks.clone()),
            wakes: RateLimiter::hashmap_with_clock(Quota::per_hour(WAKES_PER_HOUR), ticks.clone()),
            woken: Mutex::default(),
            clock,
            ticks,
        }
    }

    /// Counts a stranger's request.
    pub(super) fn request(&self, from: IpAddr) -> Result<()> {
        if self.addresses.len() > REMEMBERED {
            self.addresses.retain_recent();
        }
        self.addresses.check_key(&limit_key(from)).map_err(|not| too_many(not.wait_time_from(self.ticks.now())))
    }

    /// Counts a wake for strangers, one for all who come together; or how long until there may be one.
    pub(super) fn wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        let now = self.clock.now();
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make them wait together for long.
        if woken.get(&instance).is_some_and(|last| *last <= now && now.since(*last) < TOGETHER) {
            return Ok(());
        }
        self.wakes.check_key(&instance).map_err(|not| not.wait_time_from(self.ticks.now()))?;
        woken.insert(instance, now);
        Ok(())
    }
}

fn too_many(wait: Duration) -> Error {
    let seconds = wait.as_secs() + 1;
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let message = format!("Too many requests come from your network. Please try again in {seconds} {unit}.");
    Error::TooMany { message, retry_after: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn strangers_are_counted_by_address_and_their_wakes_by_instance() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = Limits::new(clock.clone());
        let address = |n: u8| IpAddr::from([203, 0, 113, n]);
        assert_eq!((0..1000).filter(|_| limits.request(address(1)).is_ok()).count(), 600);
        limits.request(address(2)).unwrap();
        let Err(Error::TooMany { message, retry_after }) = limits.request(address(1)) else { panic!("let in") };
        assert_eq!(
            (message.as_str(), retry_after.as_secs()),
            ("Too many requests come from your network. Please try again in 1 second.", 1)
        );
        clock.advance(retry_after);
        limits.request(address(1)).unwrap();

        let [alices, bobs] = [1, 2].map(|n| InstanceId(Uuid::from_u128(n)));
        // A crowd that comes at once is one wake; sixty crowds an hour, and those that come back with time.
        let crowd = |limits: &Limits| {
            clock.advance(TOGETHER);
            (0..100).filter(|_| limits.wake(alices).is_ok()).count()
        };
        let crowds: Vec<usize> = (0..90).map(|_| crowd(&limits)).collect();
        assert!(crowds.iter().all(|woken| [0, 100].contains(woken)), "{crowds:?}");
        // From the first to the last fourteen minutes pass.
        assert_eq!(crowds.iter().filter(|woken| **woken == 100).count(), 60 + 14);
        limits.wake(bobs).unwrap();
        let wait = loop {
            clock.advance(TOGETHER);
            if let Err(wait) = limits.wake(alices) {
                break wait;
            }
        };
        assert!(wait <= Duration::from_secs(60), "{wait:?}");
        clock.advance(wait);
        limits.wake(alices).unwrap();
    }
}
