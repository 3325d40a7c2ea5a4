//! Rate limits of visitors without a login (token buckets): requests per client address, and wakes per instance.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::Result;
use berth_net::peer::limit_key;

use crate::db::InstanceId;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, too_many};

/// Requests from one address. Enough for several people behind one address (NAT), each loading a page of many parts.
const REQUESTS: RateLimit = RateLimit::per_minute(600);
/// Wakes of one instance. Each keeps it awake for the idle timeout, five minutes by default: an instance with visitors
/// all day stays awake all day, and crawlers cannot start it more often than this.
const WAKES: RateLimit = RateLimit::per_hour(60);
/// Requests within this time of a wake share it (single flight): the first one is still waiting for the instance.
const SHARED_WAKE: Duration = Duration::from_secs(10);

/// The rate limiters of this module.
pub(super) struct VisitorRateLimits {
    addresses: KeyedRateLimiter<IpAddr>,
    wakes: KeyedRateLimiter<InstanceId>,
    /// The last wake of each instance by a visitor without a login.
    last_wakes: Mutex<HashMap<InstanceId, Timestamp>>,
    clock: Clock,
}

impl VisitorRateLimits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            addresses: KeyedRateLimiter::new(REQUESTS, clock.clone()),
            wakes: KeyedRateLimiter::new(WAKES, clock.clone()),
            last_wakes: Mutex::default(),
            clock,
        }
    }

    /// Counts a request of a visitor without a login. `TooMany` above the limit.
    pub(super) fn request(&self, from: IpAddr) -> Result<()> {
        let limited = self.addresses.check(&limit_key(from));
        limited.map_err(|wait| too_many("Too many requests come from your network.", wait))
    }

    /// Counts a wake, once for all requests that share it. The error is the time until the next wake is allowed.
    pub(super) fn wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        let now = self.clock.now();
        let mut last_wakes = self.last_wakes.lock().unwrap_or_else(PoisonError::into_inner);
        // `last <= now`: after the clock was set back, wakes would otherwise be free until it catches up.
        if last_wakes.get(&instance).is_some_and(|last| *last <= now && now.since(*last) < SHARED_WAKE) {
            return Ok(());
        }
        self.wakes.check(&instance)?;
        last_wakes.insert(instance, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use berth_ground::error::Error;

    #[test]
    fn requests_are_counted_by_address_and_wakes_by_instance() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = VisitorRateLimits::new(clock.clone());
        let address = |n: u8| IpAddr::from([203, 0, 113, n]);
        assert_eq!((0..1000).filter(|_| limits.request(address(1)).is_ok()).count(), 600);
        limits.request(address(2)).unwrap();
        let Err(Error::TooMany { message, retry_after }) = limits.request(address(1)) else { panic!("allowed") };
        assert_eq!(
            (message.as_str(), retry_after.as_secs()),
            ("Too many requests come from your network. Please try again in 1 second.", 1)
        );
        clock.advance(retry_after);
        limits.request(address(1)).unwrap();

        let [alices, bobs] = [1, 2].map(|n| InstanceId(Uuid::from_u128(n)));
        // Each crowd shares one wake. Sixty wakes an hour are allowed, and tokens refill meanwhile.
        let crowd = |limits: &VisitorRateLimits| {
            clock.advance(SHARED_WAKE);
            (0..100).filter(|_| limits.wake(alices).is_ok()).count()
        };
        let crowds: Vec<usize> = (0..90).map(|_| crowd(&limits)).collect();
        assert!(crowds.iter().all(|woken| [0, 100].contains(woken)), "{crowds:?}");
        // Fourteen minutes pass between the first and the last crowd, so fourteen tokens refill.
        assert_eq!(crowds.iter().filter(|woken| **woken == 100).count(), 60 + 14);
        limits.wake(bobs).unwrap();
        let wait = loop {
            clock.advance(SHARED_WAKE);
            if let Err(wait) = limits.wake(alices) {
                break wait;
            }
        };
        assert!(wait <= Duration::from_secs(60), "{wait:?}");
        clock.advance(wait);
        limits.wake(alices).unwrap();
    }
}
