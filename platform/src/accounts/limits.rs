//! Rate limits of sign-ups, logins and hand-offs (token buckets): per client address and, where the cost is shared, for
//! all clients together. Loopback is not exempt: behind a misconfigured proxy every client would be loopback.

use std::net::IpAddr;

use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_net::peer::limit_key;

use super::rules;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, SharedRateLimiter, too_many};

/// Sign-ups from one address: a burst of ten, refilled in an hour. An office behind one address fits.
const SIGN_UPS: RateLimit = RateLimit::per_hour(10);
/// Sign-ups from one IPv6 /48, which a provider may assign to one customer.
const SIGN_UPS_OF_SITE: RateLimit = RateLimit::per_hour(100);
/// Sign-ups of all clients together: each becomes a container and a volume.
const SIGN_UPS_OF_ALL: RateLimit = RateLimit::per_hour(60);
/// Attempts to log in from one address: a burst of ten, refilled in a minute.
const LOG_INS: RateLimit = RateLimit::per_minute(10);
/// Login challenges for one address.
const CHALLENGES: RateLimit = RateLimit::per_minute(30).burst(10);
/// Login challenges for all clients together. Each is a row for five minutes, so at most about 62 000 live ones exist.
const CHALLENGES_OF_ALL: RateLimit = RateLimit::per_second(200).burst(2000);
/// Hand-offs from one address: a browser that restores thirty tabs needs thirty.
const HAND_OFFS: RateLimit = RateLimit::per_minute(60);

/// The rate limiters of this module.
pub(super) struct AccountRateLimits {
    /// Counted separately: unfinished sign-ups must not block those that are about to finish.
    begun: SignUpRateLimits,
    finished: SignUpRateLimits,
    log_ins: KeyedRateLimiter<IpAddr>,
    challenges: KeyedRateLimiter<IpAddr>,
    challenges_of_all: SharedRateLimiter,
    hand_offs: KeyedRateLimiter<IpAddr>,
}

/// The rate limiters of one step of a sign-up.
struct SignUpRateLimits {
    per_address: KeyedRateLimiter<IpAddr>,
    per_site: KeyedRateLimiter<IpAddr>,
    of_all: SharedRateLimiter,
}

impl AccountRateLimits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            begun: SignUpRateLimits::new(&clock),
            finished: SignUpRateLimits::new(&clock),
            log_ins: KeyedRateLimiter::new(LOG_INS, clock.clone()),
            challenges: KeyedRateLimiter::new(CHALLENGES, clock.clone()),
            challenges_of_all: SharedRateLimiter::new(CHALLENGES_OF_ALL, clock.clone()),
            hand_offs: KeyedRateLimiter::new(HAND_OFFS, clock),
        }
    }

    /// Counts the begin of a sign-up. `TooMany` above the limit.
    pub(super) fn sign_up_begun(&self, ip: IpAddr) -> Result<()> {
        self.begun.count(ip)
    }

    /// Counts a sign-up that is about to become an account. `TooMany` above the limit.
    pub(super) fn sign_up_finished(&self, ip: IpAddr) -> Result<()> {
        self.finished.count(ip)
    }

    /// Counts an attempt to log in. `TooMany` above the limit.
    pub(super) fn log_in(&self, ip: IpAddr) -> Result<()> {
        self.log_ins.check(&limit_key(ip)).map_err(|wait| too_many("Too many tries to log in.", wait))
    }

    /// Counts a login challenge for an unknown client. `TooMany` above a limit.
    pub(super) fn challenge(&self, ip: IpAddr) -> Result<()> {
        // The address first: a refused request must not take a token from the shared bucket, or one address could lock
        // out all others.
        self.challenges.check(&limit_key(ip)).map_err(|wait| too_many("Too many tries to log in.", wait))?;
        self.challenges_of_all.check().map_err(|wait| too_many("Very many people are logging in.", wait))
    }

    /// Counts the redemption of a hand-off code. `TooMany` above the limit.
    pub(super) fn hand_off(&self, ip: IpAddr) -> Result<()> {
        self.hand_offs.check(&limit_key(ip)).map_err(|wait| too_many("Too many logins from your network.", wait))
    }

    /// Drops the buckets of addresses that are full again.
    pub(super) fn purge(&self) {
        for per_address in [&self.log_ins, &self.challenges, &self.hand_offs] {
            per_address.purge();
        }
        for sign_ups in [&self.begun, &self.finished] {
            sign_ups.per_address.purge();
            sign_ups.per_site.purge();
        }
    }
}

impl SignUpRateLimits {
    fn new(clock: &Clock) -> Self {
        Self {
            per_address: KeyedRateLimiter::new(SIGN_UPS, clock.clone()),
            per_site: KeyedRateLimiter::new(SIGN_UPS_OF_SITE, clock.clone()),
            of_all: SharedRateLimiter::new(SIGN_UPS_OF_ALL, clock.clone()),
        }
    }

    fn count(&self, ip: IpAddr) -> Result<()> {
        let of_client = |wait| too_many("Too many sign-ups came from your network.", wait);
        self.per_address.check(&limit_key(ip)).map_err(of_client)?;
        if let Some(site) = rules::site_key(ip) {
            self.per_site.check(&site).map_err(of_client)?;
        }
        self.of_all.check().map_err(|wait| too_many("Very many people are signing up.", wait))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use berth_ground::clock::Timestamp;
    use berth_ground::error::Error;

    #[test]
    fn attempts_are_counted_by_address_and_refill_with_time() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = AccountRateLimits::new(clock.clone());
        let [here, there] = [IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2])];
        for _ in 0..10 {
            limits.log_in(here).unwrap();
        }
        let Err(Error::TooMany { retry_after, .. }) = limits.log_in(here) else {
            panic!("an eleventh attempt was allowed")
        };
        limits.log_in(there).unwrap();
        clock.advance(retry_after);
        limits.log_in(here).unwrap();
        clock.advance(Duration::from_secs(3600));
        limits.purge();
        assert!(limits.log_ins.is_empty());
    }

    #[test]
    fn one_address_cannot_lock_others_out() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = AccountRateLimits::new(clock.clone());
        let [here, there] = [IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2])];
        let allowed = (0..10_000).filter(|_| limits.challenge(here).is_ok()).count();
        assert_eq!(allowed, 10);
        limits.challenge(there).unwrap();
        clock.advance(Duration::from_secs(60));
        assert_eq!((0..100).filter(|_| limits.challenge(here).is_ok()).count(), 10, "the burst stays ten");
        clock.advance(Duration::from_secs(2));
        limits.challenge(here).unwrap();
    }

    #[test]
    fn an_hour_has_sixty_sign_ups_and_an_ipv6_site_has_a_hundred() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        for count in [AccountRateLimits::sign_up_begun, AccountRateLimits::sign_up_finished] {
            let limits = AccountRateLimits::new(clock.clone());
            let household = |n: u128| IpAddr::V6((0x2001_0db8_u128 << 96 | n << 64).into());
            assert_eq!((0..11).filter(|_| count(&limits, household(0)).is_ok()).count(), 10);
            assert_eq!((1..100).filter(|n| count(&limits, household(*n)).is_ok()).count(), 50, "sixty of all");
            // Checked directly, so that only the limit of the /48 applies.
            let limits = AccountRateLimits::new(clock.clone());
            let site = || limits.begun.per_site.check(&rules::site_key(household(7)).unwrap()).is_ok();
            assert_eq!((0..200).filter(|_| site()).count(), 100);
        }
    }
}
