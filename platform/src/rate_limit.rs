//! Rate limits: token buckets in memory, one shared or one for each key, that return after how long to retry.
//!
//! The algorithm is GCRA, the generic cell rate algorithm, in the `governor` crate: a bucket holds a burst of tokens,
//! each check takes one, and tokens come back at an even pace. The buckets are not stored, so a restart fills them all;
//! how often the platform restarts bounds what that lets through.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_ground::clock::Clock;
use berth_ground::error::Error;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Number of keys at which a limiter evicts those with a full bucket.
const PURGE_AT: usize = 10_000;

type Limiter<K, S> = RateLimiter<K, S, GovernorClock, NoOpMiddleware<Nanos>>;

/// The capacity (burst) and refill rate of a token bucket.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit(Quota);

/// A limiter with a bucket for each key.
pub struct KeyedRateLimiter<K: Hash + Eq + Clone> {
    limiter: Limiter<K, HashMapStateStore<K>>,
    clock: GovernorClock,
    /// The number of keys that triggers the next purge.
    purge_at: AtomicUsize,
}

/// A limiter with a single bucket.
pub struct SharedRateLimiter {
    limiter: Limiter<NotKeyed, InMemoryState>,
    clock: GovernorClock,
}

impl RateLimit {
    /// Refills `tokens` a second; the burst is as large.
    ///
    /// # Panics
    /// When `tokens` is zero; a constant then does not compile.
    #[must_use]
    pub const fn per_second(tokens: u32) -> Self {
        Self(Quota::per_second(at_least_one(tokens)))
    }

    /// Refills `tokens` a minute; the burst is as large.
    ///
    /// # Panics
    /// When `tokens` is zero; a constant then does not compile.
    #[must_use]
    pub const fn per_minute(tokens: u32) -> Self {
        Self(Quota::per_minute(at_least_one(tokens)))
    }

    /// Refills `tokens` an hour; the burst is as large.
    ///
    /// # Panics
    /// When `tokens` is zero; a constant then does not compile.
    #[must_use]
    pub const fn per_hour(tokens: u32) -> Self {
        Self(Quota::per_hour(at_least_one(tokens)))
    }

    /// The same refill rate with another burst.
    ///
    /// # Panics
    /// When `tokens` is zero; a constant then does not compile.
    #[must_use]
    pub const fn burst(self, tokens: u32) -> Self {
        Self(self.0.allow_burst(at_least_one(tokens)))
    }
}

const fn at_least_one(tokens: u32) -> NonZeroU32 {
    NonZeroU32::new(tokens).expect("a rate limit lets something through")
}

impl<K: Hash + Eq + Clone> KeyedRateLimiter<K> {
    /// A limiter in which every bucket is full.
    #[must_use]
    pub fn new(limit: RateLimit, clock: Clock) -> Self {
        let clock = GovernorClock(clock);
        let limiter = RateLimiter::hashmap_with_clock(limit.0, clock.clone());
        Self { limiter, clock, purge_at: AtomicUsize::new(PURGE_AT) }
    }

    /// Takes a token from the bucket of `key`.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        let keys = self.limiter.len();
        if keys > self.purge_at.load(Ordering::Relaxed) {
            // Two concurrent checks may both purge: that costs time and changes nothing, hence no lock.
            self.purge();
        }
        self.limiter.check_key(key).map_err(|refused| refused.wait_time_from(self.clock.now()))
    }

    /// Evicts keys with a full bucket: a new bucket would have the same state.
    pub fn purge(&self) {
        self.limiter.retain_recent();
        // A purge scans every key. With a fixed mark, more active keys than the mark would cause a purge at each check.
        // The mark is twice the number of remaining keys instead, so the cost of a purge is amortised over as many
        // checks.
        self.purge_at.store(PURGE_AT.max(2 * self.limiter.len()), Ordering::Relaxed);
    }

    /// Whether no key has a bucket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limiter.is_empty()
    }
}

impl SharedRateLimiter {
    /// A limiter with a full bucket.
    #[must_use]
    pub fn new(limit: RateLimit, clock: Clock) -> Self {
        let clock = GovernorClock(clock);
        Self { limiter: RateLimiter::direct_with_clock(limit.0, clock.clone()), clock }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn check(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|refused| refused.wait_time_from(self.clock.now()))
    }
}

/// The error for a client over its limit: `sentence` names the limited action, and the time to retry is appended to it.
#[must_use]
pub fn too_many(sentence: &str, wait: Duration) -> Error {
    // Retry-After has whole seconds (RFC 9110 10.2.3). Rounded up, so that a client that waits as told is admitted, and
    // is never told to wait zero seconds.
    let seconds = wait.as_secs() + 1;
    let when = match seconds {
        1 => "1 second".to_owned(),
        2..90 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    };
    let message = format!("{sentence} Please try again in {when}.");
    Error::TooMany { message, retry_after: Duration::from_secs(seconds) }
}

/// The platform's clock in the form that `governor` reads.
#[derive(Clone, Debug)]
struct GovernorClock(Clock);

impl governor::clock::Clock for GovernorClock {
    type Instant = Nanos;

    fn now(&self) -> Self::Instant {
        Duration::from_millis(u64::try_from(self.0.now().0).unwrap_or(0)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_ground::clock::Timestamp;

    const LIMIT: RateLimit = RateLimit::per_minute(60).burst(2);

    fn clock() -> Clock {
        Clock::manual(Timestamp(1_800_000_000_000))
    }

    #[test]
    fn each_key_has_a_bucket_that_fills_again_at_its_pace() {
        let clock = clock();
        let limiter = KeyedRateLimiter::new(LIMIT, clock.clone());
        assert_eq!((0..10).filter(|_| limiter.check(&1).is_ok()).count(), 2);
        limiter.check(&2).unwrap();
        let wait = limiter.check(&1).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        clock.advance(wait);
        limiter.check(&1).unwrap();
        limiter.check(&1).unwrap_err();
    }

    #[test]
    fn a_shared_bucket_is_one_for_all() {
        let limiter = SharedRateLimiter::new(RateLimit::per_hour(3), clock());
        assert_eq!((0..10).filter(|_| limiter.check().is_ok()).count(), 3);
        assert_eq!(limiter.check(), Err(Duration::from_secs(20 * 60)));
    }

    #[test]
    fn keys_with_a_full_bucket_are_dropped_and_the_others_stay() {
        let clock = clock();
        let limiter = KeyedRateLimiter::new(LIMIT, clock.clone());
        for key in 0..PURGE_AT {
            limiter.check(&key).unwrap();
        }
        clock.advance(Duration::from_secs(2));
        limiter.check(&PURGE_AT).unwrap();
        limiter.check(&PURGE_AT).unwrap();
        // The next one finds more keys than the mark.
        limiter.check(&0).unwrap();
        assert_eq!(limiter.limiter.len(), 2);
        limiter.check(&PURGE_AT).unwrap_err();
        // Past the moment at which the last bucket is full again: at that very moment it still counts as in use.
        clock.advance(Duration::from_secs(3));
        limiter.purge();
        assert!(limiter.is_empty());
    }

    #[test]
    fn a_crowd_larger_than_the_mark_is_not_looked_through_at_every_check() {
        let limiter = KeyedRateLimiter::new(LIMIT, clock());
        for key in 0..=PURGE_AT + 1 {
            limiter.check(&key).unwrap();
        }
        assert_eq!(limiter.purge_at.load(Ordering::Relaxed), 2 * (PURGE_AT + 1));
    }

    #[test]
    fn a_purge_from_outside_lowers_the_mark_that_a_crowd_raised() {
        let clock = clock();
        let limiter = KeyedRateLimiter::new(LIMIT, clock.clone());
        for key in 0..=PURGE_AT + 1 {
            limiter.check(&key).unwrap();
        }
        clock.advance(Duration::from_secs(3));
        limiter.purge();
        assert_eq!(limiter.purge_at.load(Ordering::Relaxed), PURGE_AT);
    }

    #[test]
    fn the_sentence_and_the_header_say_the_same_rounded_up() {
        for (wait_ms, seconds, when) in
            [(0, 1, "1 second"), (999, 1, "1 second"), (1_000, 2, "2 seconds"), (89_000, 90, "2 minutes")]
        {
            let Error::TooMany { message, retry_after } = too_many("Too many.", Duration::from_millis(wait_ms)) else {
                panic!("another error")
            };
            assert_eq!(retry_after, Duration::from_secs(seconds));
            assert_eq!(message, format!("Too many. Please try again in {when}."));
        }
    }
}
