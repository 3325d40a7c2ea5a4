//! Admission control over all limits of one account at once. Pure; the caller holds the account's lock, which makes
//! each function here one atomic step.

use std::collections::HashMap;
use std::time::Duration;

pub use super::token_bucket::RateLimitState;
use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;

use super::token_bucket::TokenBucket;
use crate::config::CallLimits;
use crate::quota::calendar::{Day, Month};
use crate::quota::prices::CostBound;

/// How long a place is reserved for an agent that was refused one: SDKs retry within a second or two.
const WANTS_A_PLACE: Duration = Duration::from_secs(2);
/// The most agents that are counted separately at a time; calls of further agents count as the account's own.
const MOST_AGENTS: usize = 64;

/// Money and tokens: the most that a call needs, or its actual use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallAmount {
    pub nanodollars: Nanodollars,
    /// Input and output.
    pub tokens: u64,
}

impl CallAmount {
    /// The amount that a call with this bound needs at most.
    #[must_use]
    pub fn of(bound: &CostBound) -> Self {
        Self { nanodollars: bound.total_nanodollars(), tokens: bound.input_tokens.saturating_add(bound.output_tokens) }
    }

    #[must_use]
    pub fn fits_into(self, most: Self) -> bool {
        self.nanodollars <= most.nanodollars && self.tokens <= most.tokens
    }
}

/// The month, day and agent that a call was booked under, to find them again when it settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    pub month: Month,
    pub day: Day,
    /// The name under which its agent is counted.
    agent: String,
}

/// The limit that a call does not fit into. Nothing was taken from any limit then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    Month { left_nanodollars: Nanodollars, held_nanodollars: Nanodollars },
    Day { left_nanodollars: Nanodollars, held_nanodollars: Nanodollars },
    CallsAtOnce { limit: u32 },
    RequestsAMinute { limit: u32, wait: Duration },
    TokensAMinute { limit: u32, wait: Duration },
}

/// The money of one month or one day.
#[derive(Clone, Debug)]
pub struct PeriodTotals<P> {
    pub period: P,
    pub spent_nanodollars: Nanodollars,
    pub held_nanodollars: Nanodollars,
}

impl<P> PeriodTotals<P> {
    fn of(period: P) -> Self {
        Self { period, spent_nanodollars: Nanodollars::ZERO, held_nanodollars: Nanodollars::ZERO }
    }

    fn taken(&self) -> Nanodollars {
        self.spent_nanodollars.saturating_add(self.held_nanodollars)
    }

    fn settle(&mut self, held_nanodollars: Nanodollars, spent_nanodollars: Nanodollars) {
        self.held_nanodollars -= held_nanodollars;
        self.spent_nanodollars = self.spent_nanodollars.saturating_add(spent_nanodollars);
    }
}

/// The money of a month that is over.
#[derive(Clone, Debug)]
pub struct ClosedMonth {
    pub month: Month,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
}

impl ClosedMonth {
    fn used_credit(&self) -> Nanodollars {
        self.spent_nanodollars.saturating_sub(self.allowance_nanodollars).max(Nanodollars::ZERO)
    }
}

/// The present state of the limits per minute; `None` where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    pub requests: Option<RateLimitState>,
    pub tokens: Option<RateLimitState>,
}

/// Money given beyond the months' allowances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// All that was ever given.
    pub granted: Nanodollars,
    /// Spent by months that are over.
    pub used: Nanodollars,
}

/// The books of one account.
#[derive(Clone, Debug)]
pub struct Books {
    limits: CallLimits,
    credit: Credit,
    month: PeriodTotals<Month>,
    day: PeriodTotals<Day>,
    day_ends: Timestamp,
    /// Earlier months with calls that are still in flight.
    earlier: Vec<PeriodTotals<Month>>,
    /// Months that are over: a correction of one changes how much credit it used.
    past: Vec<ClosedMonth>,
    requests: TokenBucket,
    tokens: TokenBucket,
    in_flight: u32,
    /// Calls in flight of each agent that has any.
    agents: HashMap<String, u32>,
    /// Agents that were refused a place, and when.
    refused: HashMap<String, Timestamp>,
}

impl Books {
    /// Opens the books at `now` by the sums of the ledger, with nothing in flight.
    #[must_use]
    pub fn new(
        limits: CallLimits,
        credit: Credit,
        spent_this_month: Nanodollars,
        spent_today: Nanodollars,
        now: Timestamp,
    ) -> Self {
        let today = Day::of(now);
        Self {
            limits,
            credit,
            month: PeriodTotals { spent_nanodollars: spent_this_month, ..PeriodTotals::of(today.month()) },
            day: PeriodTotals { spent_nanodollars: spent_today, ..PeriodTotals::of(today) },
            day_ends: today.next().midnight(),
            earlier: Vec::new(),
            past: Vec::new(),
            requests: TokenBucket::full(now),
            tokens: TokenBucket::full(now),
            in_flight: 0,
            agents: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Adds a month that is over, and deducts the credit that it used.
    pub fn remember(&mut self, month: ClosedMonth) {
        self.credit.used += month.used_credit();
        self.past.push(month);
    }

    /// Adds a correction, which may be below zero, to the spending of a month and of one of its days. Returns the
    /// allowance of that month.
    pub fn correct(&mut self, month: Month, day: Day, nanodollars: Nanodollars, now: Timestamp) -> Nanodollars {
        self.turn(now);
        if self.day.period == day {
            self.day.settle(Nanodollars::ZERO, nanodollars);
        }
        let open = std::iter::once(&mut self.month).chain(&mut self.earlier).find(|totals| totals.period == month);
        match (open, self.past.iter_mut().find(|past| past.month == month)) {
            // A closed month has charged its excess to the credit. Only the change of that excess counts: below the
            // allowance a correction moves no credit, and no more comes back than the month took.
            (None, Some(past)) => {
                let before = past.used_credit();
                past.spent_nanodollars = past.spent_nanodollars.saturating_add(nanodollars);
                self.credit.used += past.used_credit() - before;
                past.allowance_nanodollars
            }
            (open, _) => {
                if let Some(totals) = open {
                    totals.settle(Nanodollars::ZERO, nanodollars);
                }
                self.limits.month_nanodollars
            }
        }
    }

    /// Replaces limits and credit, from now on.
    pub fn limit(&mut self, limits: CallLimits, granted_nanodollars: Nanodollars) {
        self.limits = limits;
        self.credit.granted = granted_nanodollars;
    }

    /// Takes the needs of a call of `agent` from every limit at once, or nothing from any.
    ///
    /// # Errors
    /// The first limit that it does not fit into. Money is checked before the limits that only need a wait.
    pub fn admit(&mut self, needed: CallAmount, agent: &str, now: Timestamp) -> Result<Booking, LimitExceeded> {
        self.turn(now);
        let left_nanodollars = self.left_this_month();
        if left_nanodollars < needed.nanodollars {
            return Err(LimitExceeded::Month { left_nanodollars, held_nanodollars: self.month.held_nanodollars });
        }
        if let Some(left_nanodollars) = self.left_today()
            && left_nanodollars < needed.nanodollars
        {
            return Err(LimitExceeded::Day { left_nanodollars, held_nanodollars: self.day.held_nanodollars });
        }
        if let Some((limit, wait)) = wait(&mut self.requests, self.limits.requests_a_minute, 1, now) {
            return Err(LimitExceeded::RequestsAMinute { limit, wait });
        }
        if let Some((limit, wait)) = wait(&mut self.tokens, self.limits.tokens_a_minute, needed.tokens, now) {
            return Err(LimitExceeded::TokensAMinute { limit, wait });
        }
        // The last check is the first change: a refusal, or a panic before this line, leaves every limit as it was.
        let place = self.take_place(agent, now)?;
        self.month.held_nanodollars += needed.nanodollars;
        self.day.held_nanodollars += needed.nanodollars;
        self.requests.take(1);
        self.tokens.take(needed.tokens);
        Ok(place)
    }

    /// Takes a place for a call of `agent` under its owner's own key: only the number of concurrent calls limits it.
    ///
    /// # Errors
    /// When no place is free.
    pub fn admit_under_own_key(&mut self, agent: &str, now: Timestamp) -> Result<Booking, LimitExceeded> {
        self.turn(now);
        self.take_place(agent, now)
    }

    fn take_place(&mut self, agent: &str, now: Timestamp) -> Result<Booking, LimitExceeded> {
        let agent = self.counted_as(agent).to_owned();
        if !self.has_a_place(&agent, now) {
            self.remember_refused(agent, now);
            return Err(LimitExceeded::CallsAtOnce { limit: self.limits.calls_at_once });
        }
        self.in_flight += 1;
        self.refused.remove(&agent);
        *self.agents.entry(agent.clone()).or_default() += 1;
        Ok(Booking { month: self.month.period, day: self.day.period, agent })
    }

    /// Gives back what [`Books::admit`] took for a call, and takes its actual cost and tokens.
    pub fn settle(&mut self, place: &Booking, held: CallAmount, spent: CallAmount) {
        // By the month in which it was booked: a call that crosses midnight must free its hold where the hold is.
        if self.month.period == place.month {
            self.month.settle(held.nanodollars, spent.nanodollars);
        } else if let Some(at) = self.earlier.iter().position(|totals| totals.period == place.month) {
            let totals = &mut self.earlier[at];
            totals.settle(held.nanodollars, spent.nanodollars);
            if totals.held_nanodollars == Nanodollars::ZERO {
                let totals = self.earlier.swap_remove(at);
                self.close(totals);
            }
        }
        if self.day.period == place.day {
            self.day.settle(held.nanodollars, spent.nanodollars);
        }
        // Also beyond the hold: where a bound was too low, later calls wait for the excess.
        self.tokens.give_back(held.tokens);
        self.tokens.take(spent.tokens);
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(calls) = self.agents.get_mut(&place.agent) {
            *calls -= 1;
            if *calls == 0 {
                self.agents.remove(&place.agent);
            }
        }
    }

    #[must_use]
    pub fn limits(&self) -> CallLimits {
        self.limits
    }

    #[must_use]
    pub fn month(&self) -> &PeriodTotals<Month> {
        &self.month
    }

    #[must_use]
    pub fn today(&self) -> &PeriodTotals<Day> {
        &self.day
    }

    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Refills the token buckets of the limits a minute up to `now`, for a reading without a call.
    pub fn fill(&mut self, now: Timestamp) {
        for (bucket, limit) in
            [(&mut self.requests, self.limits.requests_a_minute), (&mut self.tokens, self.limits.tokens_a_minute)]
        {
            if let Some(limit) = limit {
                bucket.fill(limit, now);
            }
        }
    }

    /// The credit that no earlier month used or may still use.
    #[must_use]
    pub fn credit(&self) -> Nanodollars {
        // A call of an earlier month may still use credit, so its hold counts as used until it settles.
        let in_flight: Nanodollars = self.earlier.iter().map(|totals| self.used_credit(totals)).sum();
        self.credit.granted.saturating_sub(self.credit.used).saturating_sub(in_flight)
    }

    /// The money that this month still has for calls: allowance and credit, less spending and holds.
    #[must_use]
    pub fn left_this_month(&self) -> Nanodollars {
        self.limits.month_nanodollars.saturating_add(self.credit()).saturating_sub(self.month.taken())
    }

    /// The money that today still has for calls, where today has a limit.
    #[must_use]
    pub fn left_today(&self) -> Option<Nanodollars> {
        self.limits.day_nanodollars.map(|limit| limit.saturating_sub(self.day.taken()))
    }

    /// The money that is left for calls: the lesser of the month's and today's remainder.
    #[must_use]
    pub fn left(&self) -> Nanodollars {
        let month = self.left_this_month();
        self.left_today().map_or(month, |today| today.min(month))
    }

    /// The most that one more call may need, by money and tokens per minute.
    #[must_use]
    pub fn most(&self) -> CallAmount {
        let tokens = self.limits.tokens_a_minute.map_or(u64::MAX, |limit| self.tokens.most(limit));
        CallAmount { nanodollars: self.left(), tokens }
    }

    /// The present state of requests and tokens per minute, where they are limited.
    #[must_use]
    pub fn rates(&self) -> RateLimits {
        let state = |bucket: &TokenBucket, limit: Option<u32>| limit.map(|limit| bucket.state(limit));
        RateLimits {
            requests: state(&self.requests, self.limits.requests_a_minute),
            tokens: state(&self.tokens, self.limits.tokens_a_minute),
        }
    }

    /// Opens the new month or day once `now` is in it. A clock that was set back reopens none.
    pub fn turn(&mut self, now: Timestamp) {
        if now < self.day_ends {
            return;
        }
        let today = Day::of(now);
        self.day_ends = today.next().midnight();
        if today.month() > self.month.period {
            let before = std::mem::replace(&mut self.month, PeriodTotals::of(today.month()));
            // With calls in flight its spending is not final: it is closed when the last of them settles.
            if before.held_nanodollars == Nanodollars::ZERO {
                self.close(before);
            } else {
                self.earlier.push(before);
            }
        }
        if today > self.day.period {
            self.day = PeriodTotals::of(today);
        }
    }

    fn close(&mut self, totals: PeriodTotals<Month>) {
        self.remember(ClosedMonth {
            month: totals.period,
            allowance_nanodollars: self.limits.month_nanodollars,
            spent_nanodollars: totals.spent_nanodollars,
        });
    }

    fn used_credit(&self, totals: &PeriodTotals<Month>) -> Nanodollars {
        totals.taken().saturating_sub(self.limits.month_nanodollars).max(Nanodollars::ZERO)
    }

    /// The name under which a call of `agent` is counted.
    fn counted_as<'a>(&self, agent: &'a str) -> &'a str {
        if self.agents.len() < MOST_AGENTS || self.agents.contains_key(agent) { agent } else { "" }
    }

    /// Whether a free place is left for `agent`. A place for which an agent with fewer calls waits is not free.
    fn has_a_place(&mut self, agent: &str, now: Timestamp) -> bool {
        let free = self.limits.calls_at_once.saturating_sub(self.in_flight);
        self.refused.retain(|_, at| now.since(*at) < WANTS_A_PLACE);
        let calls = |agent: &str| self.agents.get(agent).copied().unwrap_or(0);
        let mine = calls(agent);
        let before_me = self.refused.keys().filter(|other| *other != agent && calls(other) < mine).count();
        u32::try_from(before_me).is_ok_and(|before_me| free > before_me)
    }

    fn remember_refused(&mut self, agent: String, now: Timestamp) {
        if self.refused.len() < MOST_AGENTS {
            self.refused.insert(agent, now);
        }
    }
}

/// The limit, and the wait until `needed` fits into it; `None` where it fits now, or there is no limit.
fn wait(bucket: &mut TokenBucket, limit: Option<u32>, needed: u64, now: Timestamp) -> Option<(u32, Duration)> {
    let limit = limit?;
    bucket.fill(limit, now);
    Some((limit, bucket.wait(limit, needed)?))
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
