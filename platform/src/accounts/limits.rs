//! How often one address may begin a sign-up or try to log in. Kept in memory: a restart forgives, which is bounded by how
//! often Berth restarts. Loopback is not exempt: behind a misconfigured proxy everyone would be loopback.

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
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Sign-ups one address may begin: this many at once, and as many an hour. An office behind one address fits.
const SIGN_UPS_PER_HOUR: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Logins one address may try: this many at once, and as many a minute.
const LOG_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Login pages everyone together may open in a second, and in one burst. Each costs a row for five minutes, so that
/// at most some 19 000 of them exist.
const CHALLENGES_PER_SECOND: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
const CHALLENGES_AT_ONCE: NonZeroU32 = NonZeroU32::new(600).expect("six hundred is not zero");

type PerAddress = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, Ticks, NoOpMiddleware<Nanos>>;
type ForAll = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

pub(super) struct Limits {
    sign_ups: PerAddress,
    log_ins: PerAddress,
    challenges: ForAll,
    ticks: Ticks,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        let ticks = Ticks(clock);
        Self {
            sign_ups: RateLimiter::hashmap_with_clock(Quota::per_hour(SIGN_UPS_PER_HOUR), ticks.clone()),
            log_ins: RateLimiter::hashmap_with_clock(Quota::per_minute(LOG_INS_PER_MINUTE), ticks.clone()),
            challenges: RateLimiter::direct_with_clock(
                Quota::per_second(CHALLENGES_PER_SECOND).allow_burst(CHALLENGES_AT_ONCE),
                ticks.clone(),
            ),
            ticks,
        }
    }

    /// Counts a sign-up that is begun. `TooMany` when it is one too many.
    pub(super) fn sign_up(&self, ip: IpAddr) -> Result<()> {
        self.sign_ups.check_key(&rules::limit_key(ip)).map_err(|not| {
            too_many("Too many sign-ups were begun from your network.", not.wait_time_from(self.ticks.now()))
        })
    }

    /// Counts a try to log in. `TooMany` when it is one too many.
    pub(super) fn log_in(&self, ip: IpAddr) -> Result<()> {
        self.log_ins
            .check_key(&rules::limit_key(ip))
            .map_err(|not| too_many("Too many tries to log in.", not.wait_time_from(self.ticks.now())))
    }

    /// Counts a challenge handed to somebody unknown. `TooMany` when it is one too many.
    pub(super) fn challenge(&self) -> Result<()> {
        self.challenges
            .check()
            .map_err(|not| too_many("Very many people are logging in.", not.wait_time_from(self.ticks.now())))
    }

    /// Forgets addresses that have all their tries again.
    pub(super) fn forget_old(&self) {
        self.sign_ups.retain_recent();
        self.log_ins.retain_recent();
    }
}

fn too_many(what: &str, wait: Duration) -> Error {
    // Whole seconds, rounded up: "try again in 0 seconds" helps nobody.
    let seconds = wait.as_secs() + 1;
    let when = if seconds < 90 { format!("{seconds} seconds") } else { format!("{} minutes", seconds.div_ceil(60)) };
    Error::TooMany { message: format!("{what} Please try again in {when}."), retry_after: Duration::from_secs(seconds) }
}

/// Our clock as governor reads it.
#[derive(Clone)]
struct Ticks(Clock);

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(u64::try_from(self.0.now().0).unwrap_or(0)).into()
    }
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
}
