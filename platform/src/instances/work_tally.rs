//! The work tally: lock-free counters of an instance's work in flight and of its last activity. Atomics instead of a
//! mutex, because every chunk of every proxied stream updates them.
//!
//! There are two kinds of work. Work that *holds* (a request that waits for its response, an AI call, a declared job)
//! keeps an instance awake for as long as it lasts. Work that *moves* (a stream, an upload, a WebSocket) counts only at
//! the moments at which bytes move, so an idle connection lets its instance sleep.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::rules::{Activity, ContainerPhase, SleepPolicy};
use super::work::{ALL, DeclaredJob, KINDS, LastWork, Work};

/// Work of one kind that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    pub work: Work,
    pub count: usize,
    /// When the count last rose from zero.
    #[serde(rename = "since_ms")]
    pub since: Timestamp,
    /// Whether the work keeps the instance awake by existing; otherwise only traffic on it does.
    pub holds: bool,
    /// When bytes last moved on it, or when it began.
    #[serde(rename = "moved_at_ms")]
    pub moved_at: Timestamp,
}

/// The awake report: why an instance is awake, or its last work and the time since which it is idle. Reading it is no
/// activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeReport {
    pub open: Vec<OpenWork>,
    /// The running declared jobs, sorted by name.
    pub jobs: Vec<DeclaredJob>,
    /// The time of the last activity.
    #[serde(rename = "idle_since_ms")]
    pub idle_since: Timestamp,
    pub last: Option<LastWork>,
    /// When the idle timeout expires if no more activity follows; `None` while work holds the instance awake, and while
    /// it is not awake.
    #[serde(rename = "sleeps_at_ms")]
    pub sleeps_at: Option<Timestamp>,
    /// The idle timeout.
    pub sleeps_after_seconds: u64,
}

/// The counters of one instance.
pub(super) struct WorkTally {
    lines: [WorkCounter; KINDS],
    active_at_ms: AtomicI64,
    /// The latest expiry of its declared jobs; [`NEVER`] without any.
    jobs_until_ms: AtomicI64,
}

const NEVER: i64 = i64::MIN;

/// A transfer or computation with activity within this time is in flight, and neither memory pressure nor an upgrade
/// interrupts it. A WebSocket does not count: its next message wakes the instance again.
const JUST_NOW: Duration = Duration::from_secs(30);

struct WorkCounter {
    open: AtomicUsize,
    since_ms: AtomicI64,
    moved_at_ms: AtomicI64,
}

impl WorkTally {
    /// Restores the tally from the row: the last activity and the kind of work that caused it.
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

    /// Records activity at `at` of no particular kind.
    pub(super) fn touch(&self, at: Timestamp) {
        advance(&self.active_at_ms, at);
    }

    /// Records activity by `work` at `at`.
    pub(super) fn moved(&self, work: Work, at: Timestamp) {
        advance(&self.line(work).moved_at_ms, at);
        advance(&self.active_at_ms, at);
    }

    /// Sets the last activity to `at`, also to an earlier time: every other method only raises it.
    pub(super) fn forget_after(&self, at: Timestamp) {
        self.active_at_ms.store(at.0, Ordering::SeqCst);
    }

    /// Sets the latest expiry of its declared jobs; `None`: no job is running.
    pub(super) fn declared(&self, until: Option<Timestamp>) {
        self.jobs_until_ms.store(until.map_or(NEVER, |until| until.0), Ordering::SeqCst);
    }

    /// The end of work that ends without an event (declared jobs, recent transfers, recent processor time), if it is in
    /// the future.
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

    /// The time since which the instance is idle. An expired job counts as activity until its expiry.
    pub(super) fn idle_since(&self, now: Timestamp) -> Timestamp {
        let job = self.jobs_until_ms.load(Ordering::SeqCst).min(now.0);
        Timestamp(self.active_at_ms.load(Ordering::SeqCst).max(job))
    }

    pub(super) fn activity(&self, now: Timestamp, container: ContainerPhase) -> Activity {
        let lives = matches!(container, ContainerPhase::Running { .. } | ContainerPhase::Frozen);
        // Work from inside cannot outlive its container. An AI call that is still being drained after its container
        // ended must not start another one.
        let held = ALL.into_iter().any(|work| {
            work.holds() && (lives || work.is_from_outside()) && self.line(work).open.load(Ordering::SeqCst) > 0
        });
        if held || (lives && self.busy_until(now).is_some()) {
            Activity::Working
        } else {
            // A job ends with its container, so its expiry does not count.
            let since = if lives { self.idle_since(now) } else { Timestamp(self.active_at_ms.load(Ordering::SeqCst)) };
            Activity::Idle(now.since(since))
        }
    }

    pub(super) fn last(&self) -> Option<LastWork> {
        let moved = |work| LastWork { work, at: Timestamp(self.line(work).moved_at_ms.load(Ordering::SeqCst)) };
        ALL.into_iter().map(moved).filter(|last| last.at.0 != NEVER).max_by_key(|last| last.at)
    }

    /// Builds the awake report without the jobs, which the caller adds; `awake` says whether the instance is awake.
    pub(super) fn report(&self, now: Timestamp, awake: bool, policy: SleepPolicy) -> AwakeReport {
        let open: Vec<OpenWork> = ALL.into_iter().filter_map(|work| self.open(work)).collect();
        let held = open.iter().any(|open| open.holds) || self.jobs_until() > now;
        let idle_since = self.idle_since(now);
        let sleeps_at = (awake && !held).then(|| idle_since.plus(policy.freeze_after));
        AwakeReport {
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
        // The counters are read one by one, not as a snapshot: good enough to show, and no decision uses them.
        let moved_at = Timestamp(line.moved_at_ms.load(Ordering::SeqCst)).max(since);
        (count > 0).then_some(OpenWork { work, count, since, holds: work.holds(), moved_at })
    }
}

/// Raises `moment` to `at`; never lowers it. The load first avoids a write to a shared cache line, because most calls
/// come within the same millisecond.
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
        assert_eq!(tally.report(at(10), true, POLICY).sleeps_at, Some(at(300)));
        assert_eq!(tally.report(at(10), false, POLICY).sleeps_at, None);
        tally.begin(Work::Request, at(20));
        tally.begin(Work::Request, at(25));
        tally.begin(Work::Stream, at(25));
        let report = tally.report(at(30), true, POLICY);
        assert_eq!((report.sleeps_at, report.last), (None, Some(LastWork { work: Work::Socket, at: at(0) })));
        let told: Vec<_> = report.open.iter().map(|open| (open.work, open.count, open.since, open.holds)).collect();
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
