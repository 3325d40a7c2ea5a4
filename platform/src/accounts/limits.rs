//! How often one address, and where it must be everyone together, may sign up, log in or be handed off. Loopback is not
//! exempt: behind a misconfigured proxy everyone would be loopback.

use std::net::IpAddr;

use super::rules;
use crate::client::limit_key;
use crate::clock::Clock;
use crate::error::Result;
use crate::rate_limit::{KeyedRateLimiter, RateLimit, SharedRateLimiter, too_many};

/// Sign-ups one address may begin: this many at once, and as many an hour. An office behind one address fits.
const SIGN_UPS: RateLimit = RateLimit::per_hour(10);
/// Sign-ups one IPv6 /48 may begin, which one customer of a provider may have whole.
const SIGN_UPS_OF_SITE: RateLimit = RateLimit::per_hour(100);
/// Sign-ups of everyone together: each becomes a container and a volume.
const SIGN_UPS_OF_ALL: RateLimit = RateLimit::per_hour(60);
/// Logins one address may try: this many at once, and as many a minute.
const LOG_INS: RateLimit = RateLimit::per_minute(10);
/// Login pages one address may open in a minute, and at once.
const CHALLENGES: RateLimit = RateLimit::per_minute(30).burst(10);
/// Login pages everyone together may open in a second, and in one burst. Each costs a row for five minutes, so that
/// at most some 62 000 live ones exist.
const CHALLENGES_OF_ALL: RateLimit = RateLimit::per_second(200).burst(2000);
/// Hand-offs one address may finish in a minute: a browser that opens thirty tabs again needs thirty.
const HAND_OFFS: RateLimit = RateLimit::per_minute(60);

pub(super) struct Limits {
    begun: SignUps,
    finished: SignUps,
    log_ins: KeyedRateLimiter<IpAddr>,
    challenges: KeyedRateLimiter<IpAddr>,
    challenges_of_all: SharedRateLimiter,
    hand_offs: KeyedRateLimiter<IpAddr>,
}

/// Sign-ups at one end of them.
struct SignUps {
    per_address: KeyedRateLimiter<IpAddr>,
    per_site: KeyedRateLimiter<IpAddr>,
    of_all: SharedRateLimiter,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            begun: SignUps::new(&clock),
            finished: SignUps::new(&clock),
            log_ins: KeyedRateLimiter::new(LOG_INS, clock.clone()),
            challenges: KeyedRateLimiter::new(CHALLENGES, clock.clone()),
            challenges_of_all: SharedRateLimiter::new(CHALLENGES_OF_ALL, clock.clone()),
            hand_offs: KeyedRateLimiter::new(HAND_OFFS, clock),
        }
    }

    /// Counts a sign-up that is begun. `TooMany` when it is one too many.
    pub(super) fn sign_up_begun(&self, ip: IpAddr) -> Result<()> {
        self.begun.count(ip)
    }

    /// Counts a sign-up that is about to become an account. `TooMany` when it is one too many.
    pub(super) fn sign_up_finished(&self, ip: IpAddr) -> Result<()> {
        self.finished.count(ip)
    }

    /// Counts a try to log in. `TooMany` when it is one too many.
    pub(super) fn log_in(&self, ip: IpAddr) -> Result<()> {
        self.log_ins.check(&limit_key(ip)).map_err(|wait| too_many("Too many tries to log in.", wait))
    }

    /// Counts a challenge handed to somebody unknown. `TooMany` when it is one too many: for that address, before it
    /// takes anything from everyone's share.
    pub(super) fn challenge(&self, ip: IpAddr) -> Result<()> {
        self.challenges.check(&limit_key(ip)).map_err(|wait| too_many("Too many tries to log in.", wait))?;
        self.challenges_of_all.check().map_err(|wait| too_many("Very many people are logging in.", wait))
    }

    /// Counts a hand-off brought to an instance's host. `TooMany` when it is one too many.
    pub(super) fn hand_off(&self, ip: IpAddr) -> Result<()> {
        self.hand_offs.check(&limit_key(ip)).map_err(|wait| too_many("Too many logins from your network.", wait))
    }

    /// Forgets addresses that have all their tries again.
    pub(super) fn forget_old(&self) {
        for per_address in [&self.log_ins, &self.challenges, &self.hand_offs] {
            per_address.purge();
        }
        for sign_ups in [&self.begun, &self.finished] {
            sign_ups.per_address.purge();
            sign_ups.per_site.purge();
        }
    }
}

impl SignUps {
    fn new(clock: &Clock) -> Self {
        Self {
            per_address: KeyedRateLimiter::new(SIGN_UPS, clock.clone()),
            per_site: KeyedRateLimiter::new(SIGN_UPS_OF_SITE, clock.clone()),
            of_all: SharedRateLimiter::new(SIGN_UPS_OF_ALL, clock.clone()),
        }
    }

    fn count(&self, ip: IpAddr) -> Result<()> {
        let theirs = |wait| too_many("Too many sign-ups came from your network.", wait);
        self.per_address.check(&limit_key(ip)).map_err(theirs)?;
        if let Some(site) = rules::site_key(ip) {
            self.per_site.check(&site).map_err(theirs)?;
        }
        self.of_all.check().map_err(|wait| too_many("Very many people are signing up.", wait))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::error::Error;

    #[test]
    fn tries_come_back_with_time_and_are_counted_by_address() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = Limits::new(clock.clone());
        let [here, there] = [IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2])];
        for _ in 0..10 {
            limits.log_in(here).unwrap();
        }
        let Err(Error::TooMany { retry_after, .. }) = limits.log_in(here) else { panic!("an eleventh try was let in") };
        limits.log_in(there).unwrap();
        clock.advance(retry_after);
        limits.log_in(here).unwrap();
        clock.advance(Duration::from_secs(3600));
        limits.forget_old();
        assert!(limits.log_ins.is_empty());
    }
    #[test]
    fn one_address_cannot_keep_everybody_from_logging_in() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let limits = Limits::new(clock.clone());
        let [here, there] = [IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2])];
        let allowed = (0..10_000).filter(|_| limits.challenge(here).is_ok()).count();
        assert_eq!(allowed, 10);
        limits.challenge(there).unwrap();
        clock.advance(Duration::from_secs(60));
        assert_eq!(
            (0..100).filter(|_| limits.challenge(here).is_ok()).count(),
            10,
            "no more at once, however long ago"
        );
        clock.advance(Duration::from_secs(2));
        limits.challenge(here).unwrap();
    }

    #[test]
    fn an_hour_has_sixty_sign_ups_and_an_ipv6_site_has_a_hundred() {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        for count in [Limits::sign_up_begun, Limits::sign_up_finished] {
            let limits = Limits::new(clock.clone());
            let household = |n: u128| IpAddr::V6((0x2001_0db8_u128 << 96 | n << 64).into());
            assert_eq!((0..11).filter(|_| count(&limits, household(0)).is_ok()).count(), 10);
            assert_eq!((1..100).filter(|n| count(&limits, household(*n)).is_ok()).count(), 50, "sixty of all");
            // Spread over hours, so that only the site's own limit is left.
            let limits = Limits::new(clock.clone());
            let site = || limits.begun.per_site.check(&rules::site_key(household(7)).unwrap()).is_ok();
            assert_eq!((0..200).filter(|_| site()).count(), 100);
        }
    }
}
