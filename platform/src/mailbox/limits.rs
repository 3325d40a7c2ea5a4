//! How often letters may be left, and how often they may wake. Kept in memory: a restart forgives, which is bounded by how
//! often Berth restarts.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::client::limit_key;
use crate::clock::{Clock, LimiterClock};
use crate::db::InstanceId;
use crate::error::{Error, Result};

/// Letters that one address may leave in a minute, and at once: a push of many branches comes as that many webhooks.
const LETTERS_PER_MINUTE_AND_ADDRESS: NonZeroU32 = NonZeroU32::new(120).expect("a hundred and twenty is not zero");
/// Letters that all addresses together may leave for one instance in a minute, and at once.
const LETTERS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(300).expect("three hundred is not zero");
/// Wakes for letters in an hour, and in a row. Each wakes for as long as a visit does, five minutes unless told otherwise, and
/// takes all that waits: mail alone keeps an instance awake half of the time at most.
const WAKES_PER_HOUR: NonZeroU32 = NonZeroU32::new(6).expect("six is not zero");
/// Addresses and instances remembered before those with nothing to remember are dropped.
const REMEMBERED: usize = 10_000;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, LimiterClock, NoOpMiddleware<Nanos>>;

pub(super) struct Limits {
    addresses: Keyed<IpAddr>,
    instances: Keyed<InstanceId>,
    wakes: Keyed<InstanceId>,
    ticks: LimiterClock,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        let ticks = LimiterClock(clock);
        Self {
            addresses: RateLimiter::hashmap_with_clock(
                Quota::per_minute(LETTERS_PER_MINUTE_AND_ADDRESS),
                ticks.clone(),
            ),
            instances: RateLimiter::hashmap_with_clock(Quota::per_minute(LETTERS_PER_MINUTE), ticks.clone()),
            wakes: RateLimiter::hashmap_with_clock(Quota::per_hour(WAKES_PER_HOUR), ticks.clone()),
            ticks,
        }
    }

    /// Counts a letter: against its sender's address before it takes anything from everybody's share.
    pub(super) fn knock(&self, instance: InstanceId, from: IpAddr) -> Result<()> {
        if self.addresses.len() > REMEMBERED {
            self.addresses.retain_recent();
        }
        self.addresses
            .check_key(&limit_key(from))
            .map_err(|not| too_many("This address sends too much mail", not.wait_time_from(self.ticks.now())))?;
        self.instances
            .check_key(&instance)
            .map_err(|not| too_many("This instance gets too much mail", not.wait_time_from(self.ticks.now())))
    }

    /// Counts a wake; or how long until there may be one.
    pub(super) fn may_wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        self.wakes.check_key(&instance).map_err(|not| not.wait_time_from(self.ticks.now()))
    }
}

fn too_many(what: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs() + 1;
    let message = format!("{what}. Please try again in {seconds} seconds.");
    Error::TooMany { message, retry_after: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn one_sender_cannot_use_up_what_all_may_send_and_six_wakes_an_hour_come_back() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = Limits::new(clock.clone());
        let (alices, bobs) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        let address = |n: u8| IpAddr::from([203, 0, 113, n]);
        assert_eq!((0..1000).filter(|_| limits.knock(alices, address(1)).is_ok()).count(), 120);
        assert_eq!((0..1000).filter(|_| limits.knock(alices, address(2)).is_ok()).count(), 120);
        assert_eq!((0..1000).filter(|_| limits.knock(alices, address(3)).is_ok()).count(), 60, "all together");
        limits.knock(bobs, address(4)).unwrap();
        assert_eq!((0..10).filter(|_| limits.may_wake(alices).is_ok()).count(), 6);
        let wait = limits.may_wake(alices).unwrap_err();
        assert!(wait > Duration::from_secs(500) && wait <= Duration::from_secs(600), "{wait:?}");
        clock.advance(wait);
        limits.may_wake(alices).unwrap();
        limits.may_wake(alices).unwrap_err();
        limits.may_wake(bobs).unwrap();
    }
}
