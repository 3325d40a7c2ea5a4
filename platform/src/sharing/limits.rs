//! How often strangers may look, and how often they may wake.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::client::limit_key;
use crate::clock::{Clock, Timestamp};
use crate::db::InstanceId;
use crate::error::Result;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, too_many};

/// Requests that strangers from one address may send in a minute, and at once: several people behind one address, each with a
/// page of many parts.
const REQUESTS: RateLimit = RateLimit::per_minute(600);
/// Wakes of one instance for strangers in an hour, and in a row. Each keeps it awake as a visit does, five minutes unless
/// told otherwise: a place that people come to all day is awake all day, and a crowd of crawlers starts nothing more often.
const WAKES: RateLimit = RateLimit::per_hour(60);
/// Strangers who come within this time of the first are woken for together: he has not been served yet.
const TOGETHER: Duration = Duration::from_secs(10);

pub(super) struct Limits {
    addresses: KeyedRateLimiter<IpAddr>,
    wakes: KeyedRateLimiter<InstanceId>,
    /// When each was last woken for a stranger.
    woken: Mutex<HashMap<InstanceId, Timestamp>>,
    clock: Clock,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            addresses: KeyedRateLimiter::new(REQUESTS, clock.clone()),
            wakes: KeyedRateLimiter::new(WAKES, clock.clone()),
            woken: Mutex::default(),
            clock,
        }
    }

    /// Counts a stranger's request.
    pub(super) fn request(&self, from: IpAddr) -> Result<()> {
        let limited = self.addresses.check(&limit_key(from));
        limited.map_err(|wait| too_many("Too many requests come from your network.", wait))
    }

    /// Counts a wake for strangers, one for all who come together; or how long until there may be one.
    pub(super) fn wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        let now = self.clock.now();
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make them wait together for long.
        if woken.get(&instance).is_some_and(|last| *last <= now && now.since(*last) < TOGETHER) {
            return Ok(());
        }
        self.wakes.check(&instance)?;
        woken.insert(instance, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::error::Error;

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
