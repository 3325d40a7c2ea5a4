//! Rate limits of webhooks (token buckets): requests per address, requests per instance, and wakes by deliveries.

use std::net::IpAddr;
use std::time::Duration;

use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_net::peer::limit_key;

use crate::db::InstanceId;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, too_many};

/// Requests from one address: GitHub and others send one for each branch of a push, all at once.
const REQUESTS_OF_ADDRESS: RateLimit = RateLimit::per_minute(120);
/// Requests to one instance from all addresses together.
const REQUESTS_OF_INSTANCE: RateLimit = RateLimit::per_minute(300);
/// Wakes of one instance for deliveries. Each wake keeps the instance awake for as long as a visit does, five minutes
/// by default, and delivers everything that waits: at six an hour, webhooks keep an instance awake at most half of the
/// time.
const WAKES: RateLimit = RateLimit::per_hour(6);

pub(super) struct WebhookRateLimits {
    addresses: KeyedRateLimiter<IpAddr>,
    instances: KeyedRateLimiter<InstanceId>,
    wakes: KeyedRateLimiter<InstanceId>,
}

impl WebhookRateLimits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            addresses: KeyedRateLimiter::new(REQUESTS_OF_ADDRESS, clock.clone()),
            instances: KeyedRateLimiter::new(REQUESTS_OF_INSTANCE, clock.clone()),
            wakes: KeyedRateLimiter::new(WAKES, clock),
        }
    }

    /// Counts a request from outside.
    pub(super) fn check_request(&self, instance: InstanceId, from: IpAddr) -> Result<()> {
        // The sender's own bucket is checked first: a request that it refuses takes no token from the shared bucket.
        let of_address = self.addresses.check(&limit_key(from));
        of_address.map_err(|wait| too_many("This address sends too many webhooks.", wait))?;
        self.instances.check(&instance).map_err(|wait| too_many("This instance gets too many webhooks.", wait))
    }

    /// Counts a wake. The error is the time until the next wake is allowed.
    pub(super) fn check_wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        self.wakes.check(&instance)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use berth_ground::clock::Timestamp;

    #[test]
    fn one_sender_cannot_use_up_what_all_may_send_and_six_wakes_an_hour_come_back() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = WebhookRateLimits::new(clock.clone());
        let (alices, bobs) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        let address = |n: u8| IpAddr::from([203, 0, 113, n]);
        assert_eq!((0..1000).filter(|_| limits.check_request(alices, address(1)).is_ok()).count(), 120);
        assert_eq!((0..1000).filter(|_| limits.check_request(alices, address(2)).is_ok()).count(), 120);
        assert_eq!((0..1000).filter(|_| limits.check_request(alices, address(3)).is_ok()).count(), 60, "all together");
        limits.check_request(bobs, address(4)).unwrap();
        assert_eq!((0..10).filter(|_| limits.check_wake(alices).is_ok()).count(), 6);
        let wait = limits.check_wake(alices).unwrap_err();
        assert!(wait > Duration::from_secs(500) && wait <= Duration::from_secs(600), "{wait:?}");
        clock.advance(wait);
        limits.check_wake(alices).unwrap();
        limits.check_wake(alices).unwrap_err();
        limits.check_wake(bobs).unwrap();
    }
}
