//! The remaining budget of an account: money, limits per minute and concurrent calls, read from its books.

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use serde::Serialize;

use crate::quota::admission::{Books, RateLimitState, RateLimits};
use crate::quota::calendar::{Day, Month};

/// The remaining budget of an account at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountBudget {
    pub period: Month,
    pub allowance_nanodollars: Nanodollars,
    /// Credit beyond the allowance that earlier months did not use.
    pub credit_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
    /// Held for calls in flight; not spendable meanwhile.
    pub held_nanodollars: Nanodollars,
    /// The money left for calls: the lesser of the month's and today's remainder.
    pub left_nanodollars: Nanodollars,
    /// The day on which the month's allowance is whole again, at midnight in UTC: `2026-12-01`.
    pub resets_on: Day,
    pub today: DayBudget,
    pub requests_a_minute: Option<RateLimitView>,
    pub tokens_a_minute: Option<RateLimitView>,
    pub calls_at_once: CallConcurrency,
}

/// The money of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayBudget {
    pub day: Day,
    /// `None`: only the month's allowance limits the day.
    pub allowance_nanodollars: Option<Nanodollars>,
    pub spent_nanodollars: Nanodollars,
    pub held_nanodollars: Nanodollars,
    pub left_nanodollars: Option<Nanodollars>,
    pub resets_on: Day,
}

/// A limit a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimitView {
    pub limit: u32,
    pub remaining: u32,
    /// Until all of it is there again.
    pub full_in_seconds: u64,
}

/// Calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallConcurrency {
    pub limit: u32,
    pub in_flight: u32,
}

impl AccountBudget {
    /// The budget by `books` at `now`.
    #[must_use]
    pub(super) fn of(books: &Books, now: Timestamp) -> Self {
        let (month, day) = (books.month(), books.today());
        let RateLimits { requests, tokens } = books.rates();
        Self {
            period: month.period,
            allowance_nanodollars: books.limits().month_nanodollars,
            credit_nanodollars: books.credit(),
            spent_nanodollars: month.spent_nanodollars,
            held_nanodollars: month.held_nanodollars,
            left_nanodollars: books.left(),
            resets_on: Month::of(now).next().first_day(),
            today: DayBudget {
                day: day.period,
                allowance_nanodollars: books.limits().day_nanodollars,
                spent_nanodollars: day.spent_nanodollars,
                held_nanodollars: day.held_nanodollars,
                left_nanodollars: books.left_today(),
                resets_on: Day::of(now).next(),
            },
            requests_a_minute: requests.map(Into::into),
            tokens_a_minute: tokens.map(Into::into),
            calls_at_once: CallConcurrency { limit: books.limits().calls_at_once, in_flight: books.in_flight() },
        }
    }
}

impl From<RateLimitState> for RateLimitView {
    fn from(rate: RateLimitState) -> Self {
        // Rounded up: rounded down, the bucket would not be full by then.
        let full_in_seconds = rate.full_in.as_millis().div_ceil(1000);
        Self {
            limit: rate.limit,
            remaining: rate.remaining,
            full_in_seconds: u64::try_from(full_in_seconds).unwrap_or(u64::MAX),
        }
    }
}
