//! How often letters may be left, and how often they may wake.

use std::net::IpAddr;
use std::time::Duration;

use crate::client::limit_key;
use crate::clock::Clock;
use crate::db::InstanceId;
use crate::error::Result;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, too_many};

/// Letters that one address may leave in a minute, and at once: a push of many branches comes as that many webhooks.
const LETTERS_OF_ADDRESS: RateLimit = RateLimit::per_minute(120);
/// Letters that all addresses together may leave for one instance in a minute, and at once.
const LETTERS: RateLimit = RateLimit::per_minute(300);
/// Wakes for letters in an hour, and in a row. Each wakes for as long as a visit does, five minutes unless told otherwise, and
/// takes all that waits: mail alone keeps an instance awake half of the time at most.
const WAKES: RateLimit = RateLimit::per_hour(6);

pub(super) struct Limits {
    addresses: KeyedRateLimiter<IpAddr>,
    instances: KeyedRateLimiter<InstanceId>,
    wakes: KeyedRateLimiter<InstanceId>,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            addresses: KeyedRateLimiter::new(LETTERS_OF_ADDRESS, clock.clone()),
            instances: KeyedRateLimiter::new(LETTERS, clock.clone()),
            wakes: KeyedRateLimiter::new(WAKES, clock),
        }
    }

    /// Counts a letter: against its sender's address before it takes anything from everybody's share.
    pub(super) fn knock(&self, instance: InstanceId, from: IpAddr) -> Result<()> {
        let of_address = self.addresses.check(&limit_key(from));
        of_address.map_err(|wait| too_many("This address sends too much mail.", wait))?;
        self.instances.check(&instance).map_err(|wait| too_many("This instance gets too much mail.", wait))
    }

    /// Counts a wake; or how long until there may be one.
    pub(super) fn may_wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        self.wakes.check(&instance)
    }
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
