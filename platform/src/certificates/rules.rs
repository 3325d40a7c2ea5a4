//! The budget of first certificates as a token bucket: full at the beginning, each new name takes one token, and the
//! bucket refills evenly over a week. Let's Encrypt counts its 50 a week for a registered domain in the same way
//! (<https://letsencrypt.org/docs/rate-limits/>, "refill").

use std::num::NonZeroU32;
use std::time::Duration;

use berth_ground::clock::Timestamp;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The state of the token bucket, in the form of the generic cell rate algorithm (GCRA): one timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeeklyBudget {
    weekly: NonZeroU32,
    /// When the bucket is full again, if no further token is taken.
    full_at: Timestamp,
}

/// How much of the weekly budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Reserved and not refilled yet. More than `weekly` when names wait for their turn.
    pub names: u32,
    pub weekly: NonZeroU32,
}

impl WeeklyBudget {
    /// A full bucket.
    pub(super) fn new(weekly: NonZeroU32) -> Self {
        Self { weekly, full_at: Timestamp(0) }
    }

    /// The time at which a name that requests a certificate `now` could get it.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        // After one more token is taken, the bucket may be at most one week away from full.
        now.max(self.full_at.plus(self.refill()).minus(WEEK))
    }

    /// Takes a token for a name that requests a certificate `now`. Returns the time from which it may be issued.
    pub(super) fn take(&mut self, now: Timestamp) -> Timestamp {
        let from = self.next(now);
        // The token counts from the time of issue, not of the request, because the authority counts that.
        self.full_at = self.full_at.max(from).plus(self.refill());
        from
    }

    pub(super) fn usage(&self, now: Timestamp) -> BudgetUsage {
        let missing = self.full_at.since(now).as_millis().div_ceil(self.refill().as_millis());
        BudgetUsage { names: u32::try_from(missing).unwrap_or(u32::MAX), weekly: self.weekly }
    }

    /// The time in which one token refills.
    fn refill(&self) -> Duration {
        WEEK / self.weekly.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn budget(weekly: u32) -> WeeklyBudget {
        WeeklyBudget::new(NonZeroU32::new(weekly).unwrap())
    }

    #[test]
    fn a_full_bucket_is_issued_at_once_and_the_rest_one_by_one_in_the_order_of_asking() {
        let (mut budget, now) = (budget(7), Timestamp(1000 * HOUR));
        for _ in 0..7 {
            assert_eq!(budget.take(now), now);
        }
        assert_eq!(budget.usage(now).names, 7);
        for day in 1..=3 {
            assert_eq!(budget.next(now), Timestamp(now.0 + day * 24 * HOUR));
            assert_eq!(budget.take(now), Timestamp(now.0 + day * 24 * HOUR));
        }
        assert_eq!(budget.usage(now).names, 10, "three wait");
        let later = Timestamp(now.0 + 10 * 24 * HOUR);
        assert_eq!((budget.usage(later).names, budget.take(later)), (0, later));
    }

    proptest! {
        #[test]
        fn no_week_sees_more_than_twice_the_budget(
            weekly in 1_u32..60,
            pauses in prop::collection::vec(0_i64..12 * HOUR, 1..200),
        ) {
            let mut original = budget(weekly);
            let mut now = 1000 * HOUR;
            let issued: Vec<i64> = pauses.iter().map(|pause| {
                now += pause;
                original.take(Timestamp(now)).0
            }).collect();
            // A token bucket admits its capacity plus the refill meanwhile; so does the authority's.
            let week = i64::try_from(WEEK.as_millis()).unwrap();
            for from in &issued {
                let within = issued.iter().filter(|at| (*from..from + week).contains(at)).count();
                prop_assert!(within <= 2 * weekly as usize);
            }
            prop_assert!(issued.is_sorted());
            // Replaying the stored times restores the same state.
            let mut replayed = budget(weekly);
            for from in &issued {
                prop_assert_eq!(replayed.take(Timestamp(*from)), Timestamp(*from));
            }
            prop_assert_eq!(replayed.full_at, original.full_at);
        }
    }
}
