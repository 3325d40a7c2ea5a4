//! The awake report in words: what keeps an instance awake, or its last work before it fell asleep. Pure.

use serde::Serialize;

use crate::http::format::Moment;
use crate::instances::{AwakeReport, DeclaredJob, LastWork, OpenWork, Work};

/// The awake report as its owner and the operator read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AwakeView {
    pub lead: &'static str,
    pub lines: Vec<AwakeLine>,
    pub end: AwakeLine,
}

/// A phrase, and the time that follows it, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AwakeLine {
    pub text: String,
    pub at: Option<Moment>,
}

impl AwakeLine {
    fn new(text: impl Into<String>, at: impl Into<Option<berth_ground::clock::Timestamp>>) -> Self {
        Self { text: text.into(), at: at.into().map(Moment) }
    }
}

/// Describes what keeps an instance awake, or its last work when it sleeps.
#[must_use]
pub fn awake_view(report: &AwakeReport, awake: bool) -> AwakeView {
    if !awake {
        let line = |last: LastWork| AwakeLine::new(format!("{}, at", counted(last.work, 1)), last.at);
        let lines = report.last.map(line).into_iter().collect();
        return AwakeView { lead: "Last work", lines, end: AwakeLine::new("Idle since", report.idle_since) };
    }
    // Work that holds the instance awake comes first; an open connection holds it only while bytes move on it.
    let (holds, moves): (Vec<&OpenWork>, Vec<&OpenWork>) = report.open.iter().partition(|open| open.holds);
    let mut lines: Vec<AwakeLine> = holds.into_iter().map(held).collect();
    lines.extend(report.jobs.iter().map(job));
    lines.extend(moves.into_iter().map(flow));
    // The last work is listed only when none of its kind is open; otherwise the same line would appear twice.
    let shown = |last: &LastWork| report.open.iter().any(|open| !open.holds && open.work == last.work);
    lines.extend(report.last.filter(|last| report.sleeps_at.is_some() && !shown(last)).map(last_work));
    let end = match report.sleeps_at {
        Some(at) => AwakeLine::new("If nothing more happens it goes to sleep at", at),
        None => {
            let wait = minutes(report.sleeps_after_seconds);
            AwakeLine::new(format!("It goes to sleep {wait} after the last of these has ended."), None)
        }
    };
    AwakeView { lead: "What keeps it awake", lines, end }
}

fn held(open: &OpenWork) -> AwakeLine {
    AwakeLine::new(format!("{}, since", counted(open.work, open.count)), open.since)
}

fn flow(open: &OpenWork) -> AwakeLine {
    AwakeLine::new(format!("{}, open; last moved", counted(open.work, open.count)), open.moved_at)
}

fn job(job: &DeclaredJob) -> AwakeLine {
    AwakeLine::new(format!("The job {}, until at most", job.name), job.until)
}

/// The last work, as a phrase that ends with its time.
#[must_use]
pub fn last_work(last: LastWork) -> AwakeLine {
    AwakeLine::new(format!("{}, last at", counted(last.work, 1)), last.at)
}

/// A duration in whole minutes if it is any, else in seconds.
fn minutes(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (1, 0) => "a minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}

/// How many of one kind of work there are, as the beginning of a sentence.
fn counted(work: Work, count: usize) -> String {
    let (one, many) = match work {
        Work::Request => ("A request", "requests"),
        Work::Upload => ("An upload", "uploads"),
        Work::Stream => ("A response in progress", "responses in progress"),
        Work::Socket => ("A WebSocket", "WebSockets"),
        Work::AiCall => ("An AI call", "AI calls"),
        Work::Job => ("A declared job", "declared jobs"),
        Work::Processor => ("Its own processor use", "processors"),
        Work::Probe => ("A probe by a browser or monitor", "probes by browsers or monitors"),
        Work::Webhook => ("A webhook being delivered", "webhooks being delivered"),
    };
    if count == 1 { one.to_owned() } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_ground::clock::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    fn open(work: Work, count: usize, holds: bool) -> OpenWork {
        OpenWork { work, count, since: at(10), holds, moved_at: at(20) }
    }

    #[test]
    fn what_holds_comes_first_and_the_end_is_open_while_it_does() {
        let mut report = AwakeReport {
            open: vec![open(Work::Request, 2, true), open(Work::Socket, 1, false), open(Work::AiCall, 1, true)],
            jobs: vec![DeclaredJob { name: "build".into(), since: at(0), until: at(90) }],
            idle_since: at(20),
            last: Some(LastWork { work: Work::Socket, at: at(20) }),
            sleeps_at: None,
            sleeps_after_seconds: 300,
        };
        let said = awake_view(&report, true);
        let texts: Vec<&str> = said.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            ["2 requests, since", "An AI call, since", "The job build, until at most", "A WebSocket, open; last moved"]
        );
        assert_eq!(said.end, AwakeLine::new("It goes to sleep 5 minutes after the last of these has ended.", None));
        report = AwakeReport { open: Vec::new(), jobs: Vec::new(), sleeps_at: Some(at(320)), ..report };
        let said = awake_view(&report, true);
        assert_eq!(said.lines, [AwakeLine::new("A WebSocket, last at", at(20))]);
        assert_eq!(said.end.at, Some(Moment(at(320))));
        assert_eq!(awake_view(&report, false).end, AwakeLine::new("Idle since", at(20)));
    }
}
