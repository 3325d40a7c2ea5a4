//! Token buckets: the limits a minute. Pure; the time comes in as an argument.

use std::time::Duration;

use berth_ground::clock::Timestamp;

/// Levels are in sixty-thousandths of a unit: a limit per minute then refills by whole numbers per millisecond.
const PARTS: i64 = 60_000;

/// The remainder of a limit a minute, for the headers that providers' clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitState {
    pub limit: u32,
    pub remaining: u32,
    /// Until all of it is there again.
    pub full_in: Duration,
}

/// A token bucket that refills within a minute. A call that needs more than its capacity overdraws it.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    level: i64,
    at: Timestamp,
}

impl TokenBucket {
    /// Full, for any limit: `fill` caps the level.
    pub fn full(at: Timestamp) -> Self {
        Self { level: i64::MAX, at }
    }

    pub fn fill(&mut self, limit: u32, now: Timestamp) {
        let elapsed = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        let flown = elapsed.saturating_mul(i64::from(limit));
        self.level = self.level.saturating_add(flown).min(i64::from(limit) * PARTS);
        // Also after the clock was set back: with the later time kept, the bucket would not refill until then.
        self.at = now;
    }

    /// The wait until `needed` fits. A need beyond the capacity waits for a full bucket.
    pub fn wait(&self, limit: u32, needed: u64) -> Option<Duration> {
        let missing = parts(needed.min(u64::from(limit))).saturating_sub(self.level);
        let rate = i64::from(limit).max(1);
        (missing > 0).then(|| Duration::from_millis(u64::try_from(missing.div_euclid(rate) + 1).unwrap_or(0)))
    }

    /// The most that would fit now.
    pub fn most(&self, limit: u32) -> u64 {
        let is_full = self.level >= parts(u64::from(limit));
        if is_full { u64::MAX } else { u64::try_from(self.level / PARTS).unwrap_or(0) }
    }

    pub fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(parts(amount));
    }

    pub fn give_back(&mut self, amount: u64) {
        self.level = self.level.saturating_add(parts(amount));
    }

    pub fn state(&self, limit: u32) -> RateLimitState {
        let full = i64::from(limit) * PARTS;
        let missing = u64::try_from(full.saturating_sub(self.level)).unwrap_or(0);
        RateLimitState {
            limit,
            remaining: u32::try_from(self.level / PARTS).unwrap_or(0).min(limit),
            full_in: Duration::from_millis(missing / u64::from(limit.max(1))),
        }
    }
}

fn parts(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(PARTS)
}
