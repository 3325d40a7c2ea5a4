//! How often one address, and where it must be everyone together, may sign up, log in or be handed off. Kept in memory:
//! a restart forgives, which is bounded by how often Berth restarts. Loopback is not exempt: behind a misconfigured
//! proxy everyone would be loopback.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::rules;
use crate::client::limit_key;
use crate::clock::{Clock, Ticks};
use crate::error::{Error, Result};

/// Sign-ups one address may begin: this many at once, and as many an hour. An office behind one address fits.
const SIGN_UPS_PER_HOUR: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Sign-ups one IPv6 /48 may begin, which one customer of a provider may have whole.
const SIGN_UPS_PER_HOUR_AND_SITE: NonZeroU32 = NonZeroU32::new(100).expect("a hundred is not zero");
/// Sign-ups of everyone together: each becomes a container and a volume.
const SIGN_UPS_PER_HOUR_OF_ALL: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
/// Logins one address may try: this many at once, and as many a minute.
const LOG_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Login pages one address may open in a minute, and at once.
const CHALLENGES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("thirty is not zero");
const CHALLENGES_AT_ONCE: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Login pages everyone together may open in a second, and in one burst. Each costs a row for five minutes, so that
/// at most some 62 000 live ones exist.
const CHALLENGES_PER_SECOND_OF_ALL: NonZeroU32 = NonZeroU32::new(200).expect("two hundred is not zero");
const CHALLENGES_AT_ONCE_OF_ALL: NonZeroU32 = NonZeroU32::new(2000).expect("two thousand is not zero");
/// Hand-offs one address may finish in a minute: a browser that opens thirty tabs again needs thirty.
const HAND_OFFS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");

type PerAddress = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, Ticks, NoOpMiddleware<Nanos>>;
type ForAll = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

pub(super) struct Limits {
    begun: SignUps,
    finished: SignUps,
    log_ins: PerAddress,
    challenges: PerAddress,
    challenges_of_all: ForAll,
    hand_offs: PerAddress,
    ticks: Ticks,
}

/// Sign-ups at one end of them.
struct SignUps {
    per_address: PerAddress,
    per_site: PerAddress,
    of_all: ForAll,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        let ticks = Ticks(clock);
        let per_address = |quota| RateLimiter::hashmap_with_clock(quota, ticks.clone());
        Self {
            begun: SignUps::new(&ticks),
            finished: SignUps::new(&ticks),
            log_ins: per_address(Quota::per_minute(LOG_INS_PER_MINUTE)),
            challenges: per_address(Quota::per_minute(CHALLENGES_PER_MINUTE).allow_burst(CHALLENGES_AT_ONCE)),
            challenges_of_all: RateLimiter::direct_with_clock(
                Quota::per_second(CHALLENGES_PER_SECOND_OF_ALL).allow_burst(CHALLENGES_AT_ONCE_OF_ALL),
                ticks.clone(),
            ),
            hand_offs: per_address(Quota::per_minute(HAND_OFFS_PER_MINUTE)),
            ticks,
        }
    }

    /// Counts a sign-up that is begun. `TooMany` when it is one too many.
    pub(super) fn sign_up_begun(&self, ip: IpAddr) -> Result<()> {
        self.begun.count(ip, &self.ticks)
    }

    /// Counts a sign-up that is about to become an account. `TooMany` when it is one too many.
    pub(super) fn sign_up_finished(&self, ip: IpAddr) -> Result<()> {
        self.finished.count(ip, &self.ticks)
    }

    /// Counts a try to log in. `TooMany` when it is one too many.
    pub(super) fn log_in(&self, ip: IpAddr) -> Result<()> {
        self.log_ins
            .check_key(&limit_key(ip))
            .map_err(|not| too_many("Too many tries to log in.", not.wait_time_from(self.ticks.now())))
    }

    /// Counts a challenge handed to somebody unknown. `TooMany` when it is one too many: for that address, before it
    /// takes anything from everyone's share.
    pub(super) fn challenge(&self, ip: IpAddr) -> Result<()> {
        self.challenges
            .check_key(&limit_key(ip))
            .map_err(|not| too_many("Too many tries to log in.", not.wait_time_from(self.ticks.now())))?;
        self.challenges_of_all
            .check()
            .map_err(|not| too_many("Very many people are logging in.", not.wait_time_from(self.ticks.now())))
    }

    /// Counts a hand-off brought to an instance's host. `TooMany` when it is one too many.
    pub(super) fn hand_off(&self, ip: IpAddr) -> Result<()> {
        self.hand_offs
            .check_key(&limit_key(ip))
            .map_err(|not| too_many("Too many logins from your network.", not.wait_time_from(self.ticks.now())))
    }

    /// Forgets addresses that have all their tries again.
    pub(super) fn forget_old(&self) {
        for per_address in [&self.log_ins, &self.challenges, &self.hand_offs] {
            per_address.retain_recent();
        }
        for sign_ups in [&self.begun, &self.finished] {
            sign_ups.per_address.retain_recent();
            sign_ups.per_site.retain_recent();
        }
    }
}

impl SignUps {
    fn new(ticks: &Ticks) -> Self {
        Self {
            per_address: RateLimiter::hashmap_with_clock(Quota::per_hour(SIGN_UPS_PER_HOUR), ticks.clone()),
            per_site: RateLimiter::hashmap_with_clock(Quota::per_hour(SIGN_UPS_PER_HOUR_AND_SITE), ticks.clone()),
            of_all: RateLimiter::direct_with_clock(Quota::per_hour(SIGN_UPS_PER_HOUR_OF_ALL), ticks.clone()),
        }
    }

    fn count(&self, ip: IpAddr, ticks: &Ticks) -> Result<()> {
        let theirs = |wait| too_many("Too many sign-ups came from your network.", wait);
        self.per_address.check_key(&limit_key(ip)).map_err(|not| theirs(not.wait_time_from(ticks.now())))?;
        if let Some(site) = rules::site_key(ip) {
            self.per_site.check_key(&site).map_err(|not| theirs(not.wait_time_from(ticks.now())))?;
        }
        self.of_all.check().map_err(|not| too_many("Very many people are signing up.", not.wait_time_from(ticks.now())))
    }
}

fn too_many(what: &str, wait: Duration) -> Error {
    // Whole seconds, rounded up: "try again in 0 seconds" helps nobody.
    let seconds = wait.as_secs() + 1;
    let when = if seconds < 90 { format!("{seconds} seconds") } else { format!("{} minutes", seconds.div_ceil(60)) };
    Error::TooMany { message: format!("{what} Please try again in {when}."), retry_after: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

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
            let site = || limits.begun.per_site.check_key(&rules::site_key(household(7)).unwrap()).is_ok();
            assert_eq!((0..200).filter(|_| site()).count(), 100);
        }
    }
}
