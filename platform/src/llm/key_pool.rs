//! The platform's keys at one provider, and which of them to use: one that was refused rests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;

/// Keys with the time until which each rests. Resting only puts a key behind the others: when all rest, the one that
/// does so for the shortest time is used all the same, so nobody's refusal keeps anybody else from calling.
pub struct Keys {
    values: Vec<HeaderValue>,
    rests_until: Mutex<Vec<Option<Instant>>>,
}

impl Keys {
    #[must_use]
    pub fn new(values: Vec<HeaderValue>) -> Self {
        let rests_until = Mutex::new(vec![None; values.len()]);
        Self { values, rests_until }
    }

    #[must_use]
    pub fn value(&self, key: usize) -> &HeaderValue {
        &self.values[key]
    }

    /// The first key for a caller that sits at `seat`: always the same while it does not rest, because providers keep
    /// what they cached for the key that they cached it for. `None`: there are no keys.
    #[must_use]
    pub fn first(&self, seat: u64, now: Instant) -> Option<usize> {
        self.other(seat, &[], now).or_else(|| {
            let rests = self.rests();
            (0..self.values.len()).min_by_key(|key| rests[*key])
        })
    }

    /// The key nearest to `seat` that does not rest and was not `tried`.
    #[must_use]
    pub fn other(&self, seat: u64, tried: &[usize], now: Instant) -> Option<usize> {
        let (rests, count) = (self.rests(), self.values.len());
        let start = usize::try_from(seat % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0);
        let all = (0..count).map(|step| (start + step) % count);
        all.filter(|key| !tried.contains(key)).find(|key| rests[*key].is_none_or(|until| until <= now))
    }

    pub fn rest(&self, key: usize, now: Instant, rest: Duration) {
        self.rests()[key] = Some(now + rest);
    }

    fn rests(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        // A list of times is whole after any panic.
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    #[test]
    fn a_caller_keeps_its_key_until_that_rests_and_gets_it_back() {
        let now = Clock::manual(Timestamp(0)).monotonic();
        let keys = Keys::new(["a", "b", "c"].map(HeaderValue::from_static).into());
        assert_eq!([0, 1, 2, 3].map(|seat| keys.first(seat, now)), [Some(0), Some(1), Some(2), Some(0)]);
        keys.rest(1, now, Duration::from_secs(5));
        assert_eq!([0, 1, 2].map(|seat| keys.first(seat, now)), [Some(0), Some(2), Some(2)]);
        assert_eq!(keys.first(1, now + Duration::from_secs(5)), Some(1));
        assert_eq!((keys.other(0, &[0], now), keys.other(0, &[0, 2], now)), (Some(2), None));
        keys.rest(0, now, Duration::from_secs(9));
        keys.rest(2, now, Duration::from_secs(7));
        assert_eq!(
            (keys.other(0, &[], now), keys.first(0, now)),
            (None, Some(1)),
            "the one that rests for the shortest"
        );
        assert_eq!(Keys::new(Vec::new()).first(0, now), None);
    }
}
