//! The budget of first certificates: full at the beginning, each name takes one, and it fills again evenly over a week. As Let's
//! Encrypt counts its 50 a week for a registered domain (<https://letsencrypt.org/docs/rate-limits/>, "refill").

use std::num::NonZeroU32;
use std::time::Duration;

use super::BudgetUsage;
use crate::clock::Timestamp;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far the budget is spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeeklyBudget {
    weekly: NonZeroU32,
    /// When it is full again, if nobody takes anything.
    full_at: Timestamp,
}

impl WeeklyBudget {
    /// A full one.
    pub(super) fn new(weekly: NonZeroU32) -> Self {
        Self { weekly, full_at: Timestamp(0) }
    }

    /// From when on a name that comes `now` could have its certificate.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        now.max(self.full_at.plus(self.refill()).minus(WEEK))
    }

    /// Takes one for a name that comes `now`; from when on it counts.
    pub(super) fn take(&mut self, now: Timestamp) -> Timestamp {
        let from = self.next(now);
        self.full_at = self.full_at.max(from).plus(self.refill());
        from
    }

    pub(super) fn usage(&self, now: Timestamp) -> BudgetUsage {
        let missing = self.full_at.since(now).as_millis().div_ceil(self.refill().as_millis());
        BudgetUsage { names: u32::try_from(missing).unwrap_or(u32::MAX), weekly: self.weekly }
    }

    /// How long one takes to come back.
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
    fn what_is_there_goes_at_once_and_the_rest_one_by_one_in_the_order_of_asking() {
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
        fn whatever_week_is_looked_at_no_more_than_twice_the_budget_is_let_through(
            weekly in 1_u32..60,
            pauses in prop::collection::vec(0_i64..12 * HOUR, 1..200),
        ) {
            let mut told = budget(weekly);
            let mut now = 1000 * HOUR;
            let let_through: Vec<i64> = pauses.iter().map(|pause| {
                now += pause;
                told.take(Timestamp(now)).0
            }).collect();
            // A bucket lets through what it holds and what flows in meanwhile, and so does the authority's.
            let week = i64::try_from(WEEK.as_millis()).unwrap();
            for from in &let_through {
                let within = let_through.iter().filter(|at| (*from..from + week).contains(at)).count();
                prop_assert!(within <= 2 * weekly as usize);
            }
            prop_assert!(let_through.is_sorted());
            // Told again from what was written down, it is the same.
            let mut again = budget(weekly);
            for from in &let_through {
                prop_assert_eq!(again.take(Timestamp(*from)), Timestamp(*from));
            }
            prop_assert_eq!(again.full_at, told.full_at);
        }
    }
}
