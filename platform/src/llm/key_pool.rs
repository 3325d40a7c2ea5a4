//! The platform's API keys at one provider: selection with cache affinity, and a cooldown for refused keys.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;

/// The keys, each with the end of its cooldown.
///
/// A key in cooldown is only used after the others. If all are in cooldown, the key that is available next is used
/// anyway, so that a tenant who provokes refusals cannot stop the calls of others.
pub struct ApiKeyPool {
    values: Vec<HeaderValue>,
    cools_until: Mutex<Vec<Option<Instant>>>,
}

impl ApiKeyPool {
    #[must_use]
    pub fn new(values: Vec<HeaderValue>) -> Self {
        let cools_until = Mutex::new(vec![None; values.len()]);
        Self { values, cools_until }
    }

    /// The header value of a key, by its index in the pool.
    #[must_use]
    pub fn value(&self, key: usize) -> &HeaderValue {
        &self.values[key]
    }

    /// The key for a first attempt; `None` for an empty pool. Callers with the same `affinity` get the same key while
    /// it is available, because providers keep a prompt cache per key.
    #[must_use]
    pub fn first(&self, affinity: u64, now: Instant) -> Option<usize> {
        self.alternative(affinity, &[], now).or_else(|| {
            let cools_until = self.lock();
            // `None` would sort first, but a key without a cooldown was already found above.
            (0..self.values.len()).min_by_key(|key| cools_until[*key])
        })
    }

    /// The available key nearest to `affinity` that is not in `tried`.
    #[must_use]
    pub fn alternative(&self, affinity: u64, tried: &[usize], now: Instant) -> Option<usize> {
        let (cools_until, count) = (self.lock(), self.values.len());
        let start = usize::try_from(affinity % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0);
        let all = (0..count).map(|step| (start + step) % count);
        all.filter(|key| !tried.contains(key)).find(|key| cools_until[*key].is_none_or(|until| until <= now))
    }

    /// Starts a cooldown of a key.
    pub fn cool_down(&self, key: usize, now: Instant, cooldown: Duration) {
        self.lock()[key] = Some(now + cooldown);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        // A panic cannot leave a half-written list of times, so a poisoned lock is still valid.
        self.cools_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_ground::clock::{Clock, Timestamp};

    #[test]
    fn a_caller_keeps_its_key_until_that_cools_down_and_gets_it_back() {
        let now = Clock::manual(Timestamp(0)).monotonic();
        let keys = ApiKeyPool::new(["a", "b", "c"].map(HeaderValue::from_static).into());
        assert_eq!([0, 1, 2, 3].map(|affinity| keys.first(affinity, now)), [Some(0), Some(1), Some(2), Some(0)]);
        keys.cool_down(1, now, Duration::from_secs(5));
        assert_eq!([0, 1, 2].map(|affinity| keys.first(affinity, now)), [Some(0), Some(2), Some(2)]);
        assert_eq!(keys.first(1, now + Duration::from_secs(5)), Some(1));
        assert_eq!((keys.alternative(0, &[0], now), keys.alternative(0, &[0, 2], now)), (Some(2), None));
        keys.cool_down(0, now, Duration::from_secs(9));
        keys.cool_down(2, now, Duration::from_secs(7));
        assert_eq!(
            (keys.alternative(0, &[], now), keys.first(0, now)),
            (None, Some(1)),
            "the key with the shortest remaining cooldown"
        );
        assert_eq!(ApiKeyPool::new(Vec::new()).first(0, now), None);
    }
}
