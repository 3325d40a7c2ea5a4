//! What keeps an instance awake, and what last did: counted without a lock, because every byte that passes comes by
//! here.
//!
//! Two kinds of work are told apart. Some *holds*: a request that waits for its answer, an AI call, a declared job keep
//! an instance awake for as long as they last. Some *moves*: a stream, an upload, a WebSocket count at each moment at
//! which bytes move on them, so that one on which nothing moves any more lets its instance sleep.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rules::{Activity, ContainerPhase, SleepPolicy};
use super::work::{ALL, DeclaredJob, KINDS, LastWork, Work};
use crate::clock::Timestamp;

/// Work of one kind that is open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    pub work: Work,
    pub count: usize,
    /// Since when there was never none of it.
    #[serde(rename = "since_ms")]
    pub since: Timestamp,
    /// Whether it keeps the instance awake by being there; otherwise only what moves on it does.
    pub holds: bool,
    /// When something last moved on it.
    #[serde(rename = "moved_at_ms")]
    pub moved_at: Timestamp,
}

/// Why an instance is awake, or since when and after what it idles. Reading it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeLedger {
    pub open: Vec<OpenWork>,
    /// What it declared, by name.
    pub jobs: Vec<DeclaredJob>,
    /// The last time that anything counted as use.
    #[serde(rename = "idle_since_ms")]
    pub idle_since: Timestamp,
    pub last: Option<LastWork>,
    /// When it falls asleep by itself if nothing more happens; `None` while something holds it, and while it is not
    /// awake.
    #[serde(rename = "sleeps_at_ms")]
    pub sleeps_at: Option<Timestamp>,
    /// How long it stays awake with nothing to do.
    pub sleeps_after_seconds: u64,
}

/// One instance's work.
pub(super) struct WorkTally {
    lines: [WorkCounter; KINDS],
    active_at_ms: AtomicI64,
    /// The latest end of its declared jobs; [`NEVER`] when it has none.
    jobs_until_ms: AtomicI64,
}

const NEVER: i64 = i64::MIN;

/// A transfer or a computation that moved within this time is under way, and neither memory pressure nor an upgrade
/// cuts it short. A WebSocket's messages may wait: they wake it again.
const JUST_NOW: Duration = Duration::from_secs(30);

struct WorkCounter {
    open: AtomicUsize,
    since_ms: AtomicI64,
    moved_at_ms: AtomicI64,
}

impl WorkTally {
    /// As it was written down when the instance was last seen.
    pub(super) fn new(active_at: Timestamp, last: Option<Work>) -> Self {
        let line = |work| {
            let moved = if last == Some(work) { active_at.0 } else { NEVER };
            WorkCounter {
                open: AtomicUsize::new(0),
                since_ms: AtomicI64::new(NEVER),
                moved_at_ms: AtomicI64::new(moved),
            }
        };
        Self { lines: ALL.map(line), active_at_ms: AtomicI64::new(active_at.0), jobs_until_ms: AtomicI64::new(NEVER) }
    }

    fn line(&self, work: Work) -> &WorkCounter {
        &self.lines[work as usize]
    }

    pub(super) fn begin(&self, work: Work, now: Timestamp) {
        let line = self.line(work);
        if line.open.fetch_add(1, Ordering::SeqCst) == 0 {
            line.since_ms.store(now.0, Ordering::SeqCst);
        }
    }

    pub(super) fn end(&self, work: Work) {
        self.line(work).open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts as used at `at`, without saying by what.
    pub(super) fn touch(&self, at: Timestamp) {
        advance(&self.active_at_ms, at);
    }

    /// Counts as used by `work` at `at`.
    pub(super) fn moved(&self, work: Work, at: Timestamp) {
        advance(&self.line(work).moved_at_ms, at);
        advance(&self.active_at_ms, at);
    }

    /// Counts as not used since `at`, whatever happened after.
    pub(super) fn forget_after(&self, at: Timestamp) {
        self.active_at_ms.store(at.0, Ordering::SeqCst);
    }

    /// What it declared lasts until `until`; `None`: it declared nothing, or all of it ended.
    pub(super) fn declared(&self, until: Option<Timestamp>) {
        self.jobs_until_ms.store(until.map_or(NEVER, |until| until.0), Ordering::SeqCst);
    }

    /// Until when it is busy by itself, while that is in the future: with a declared job, or with what moved just now.
    pub(super) fn busy_until(&self, now: Timestamp) -> Option<Timestamp> {
        let moving = |work| {
            let line = self.line(work);
            let open = work == Work::Processor || line.open.load(Ordering::SeqCst) > 0;
            open.then(|| line.moved_at_ms.load(Ordering::SeqCst)).filter(|moved| *moved != NEVER)
        };
        let moving = [Work::Upload, Work::Stream, Work::Processor].into_iter().filter_map(moving).max();
        let moving = moving.map_or(Timestamp(NEVER), |moved| Timestamp(moved).plus(JUST_NOW));
        Some(moving.max(self.jobs_until())).filter(|until| *until > now)
    }

    fn jobs_until(&self) -> Timestamp {
        Timestamp(self.jobs_until_ms.load(Ordering::SeqCst))
    }

    /// Since when it idles: a job that came to its limit was work until then.
    pub(super) fn idle_since(&self, now: Timestamp) -> Timestamp {
        let job = self.jobs_until_ms.load(Ordering::SeqCst).min(now.0);
        Timestamp(self.active_at_ms.load(Ordering::SeqCst).max(job))
    }

    pub(super) fn activity(&self, now: Timestamp, container: ContainerPhase) -> Activity {
        let lives = matches!(container, ContainerPhase::Running { .. } | ContainerPhase::Frozen);
        let held = ALL.into_iter().any(|work| {
            work.holds() && (lives || work.is_from_outside()) && self.line(work).open.load(Ordering::SeqCst) > 0
        });
        if held || (lives && self.busy_until(now).is_some()) {
            Activity::Working
        } else {
            // A job that was in it is over with it.
            let since = if lives { self.idle_since(now) } else { Timestamp(self.active_at_ms.load(Ordering::SeqCst)) };
            Activity::Idle(now.since(since))
        }
    }

    pub(super) fn last(&self) -> Option<LastWork> {
        let moved = |work| LastWork { work, at: Timestamp(self.line(work).moved_at_ms.load(Ordering::SeqCst)) };
        ALL.into_iter().map(moved).filter(|last| last.at.0 != NEVER).max_by_key(|last| last.at)
    }

    /// The ledger shown for the instance; `awake` says whether the instance is awake.
    pub(super) fn ledger(&self, now: Timestamp, awake: bool, policy: SleepPolicy) -> AwakeLedger {
        let open: Vec<OpenWork> = ALL.into_iter().filter_map(|work| self.open(work)).collect();
        let held = open.iter().any(|open| open.holds) || self.jobs_until() > now;
        let idle_since = self.idle_since(now);
        let sleeps_at = (awake && !held).then(|| idle_since.plus(policy.freeze_after));
        AwakeLedger {
            open,
            jobs: Vec::new(),
            idle_since,
            last: self.last(),
            sleeps_at,
            sleeps_after_seconds: policy.freeze_after.as_secs(),
        }
    }

    fn open(&self, work: Work) -> Option<OpenWork> {
        let line = self.line(work);
        let count = line.open.load(Ordering::SeqCst);
        let since = Timestamp(line.since_ms.load(Ordering::SeqCst));
        let moved_at = Timestamp(line.moved_at_ms.load(Ordering::SeqCst)).max(since);
        (count > 0).then_some(OpenWork { work, count, since, holds: work.holds(), moved_at })
    }
}

/// Moves on to `at`, never back. Most often it is there already: then nothing is written.
fn advance(moment: &AtomicI64, at: Timestamp) {
    if moment.load(Ordering::SeqCst) < at.0 {
        moment.fetch_max(at.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUNS: ContainerPhase = ContainerPhase::Running { ready: true };
    const POLICY: SleepPolicy = SleepPolicy {
        freeze_after: Duration::from_secs(300),
        stop_after: Duration::from_secs(1800),
        remove_after: Duration::from_secs(86400),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    fn idle(seconds: u64) -> Activity {
        Activity::Idle(Duration::from_secs(seconds))
    }

    #[test]
    fn what_holds_is_work_for_as_long_as_it_lasts_and_what_moves_only_then() {
        let tally = WorkTally::new(at(0), None);
        tally.begin(Work::Stream, at(0));
        assert_eq!(tally.activity(at(100), RUNS), idle(100), "an open stream is nothing by itself");
        tally.moved(Work::Stream, at(100));
        assert_eq!(tally.activity(at(129), RUNS), Activity::Working);
        assert_eq!(tally.activity(at(130), RUNS), idle(30));
        tally.begin(Work::Request, at(130));
        assert_eq!(tally.activity(at(9000), RUNS), Activity::Working);
        tally.end(Work::Request);
        assert_eq!(tally.last(), Some(LastWork { work: Work::Stream, at: at(100) }));
    }

    #[test]
    fn work_from_inside_starts_nothing_that_has_ended() {
        let tally = WorkTally::new(at(0), None);
        tally.begin(Work::AiCall, at(0));
        tally.declared(Some(at(1000)));
        assert_eq!(tally.activity(at(400), RUNS), Activity::Working);
        assert_eq!(tally.activity(at(400), ContainerPhase::Frozen), Activity::Working);
        assert_eq!(tally.activity(at(400), ContainerPhase::Stopped), idle(400), "what was in it is over with it");
        tally.begin(Work::Request, at(400));
        assert_eq!(tally.activity(at(400), ContainerPhase::Stopped), Activity::Working);
    }

    #[test]
    fn a_job_is_work_until_its_limit_and_idleness_counts_from_there() {
        let tally = WorkTally::new(at(0), None);
        tally.declared(Some(at(1000)));
        assert_eq!(tally.activity(at(999), RUNS), Activity::Working);
        assert_eq!(tally.activity(at(1000), RUNS), idle(0));
        assert_eq!(tally.activity(at(1010), RUNS), idle(10));
        tally.declared(None);
        assert_eq!(tally.activity(at(1010), RUNS), idle(1010), "it was ended before");
    }

    #[test]
    fn the_ledger_says_what_is_open_since_when_and_when_it_sleeps() {
        let tally = WorkTally::new(at(0), Some(Work::Socket));
        assert_eq!(tally.ledger(at(10), true, POLICY).sleeps_at, Some(at(300)));
        assert_eq!(tally.ledger(at(10), false, POLICY).sleeps_at, None);
        tally.begin(Work::Request, at(20));
        tally.begin(Work::Request, at(25));
        tally.begin(Work::Stream, at(25));
        let ledger = tally.ledger(at(30), true, POLICY);
        assert_eq!((ledger.sleeps_at, ledger.last), (None, Some(LastWork { work: Work::Socket, at: at(0) })));
        let told: Vec<_> = ledger.open.iter().map(|open| (open.work, open.count, open.since, open.holds)).collect();
        assert_eq!(told, [(Work::Request, 2, at(20), true), (Work::Stream, 1, at(25), false)]);
    }

    proptest! {
        #[test]
        fn idleness_counts_from_the_latest_movement_in_whatever_order_they_are_told(
            moves in proptest::collection::vec((0usize..KINDS, 0i64..1000), 0..20)
        ) {
            let tally = WorkTally::new(at(0), None);
            for (work, second) in &moves {
                tally.moved(ALL[*work], at(*second));
            }
            let latest = moves.iter().map(|(_, second)| *second).max().unwrap_or(0);
            prop_assert_eq!(tally.idle_since(at(1000)), at(latest));
            prop_assert_eq!(tally.last().map(|last| last.at), (!moves.is_empty()).then(|| at(latest)));
        }
    }
}
