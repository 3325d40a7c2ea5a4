//! The awake ledger in words: what keeps an instance awake, and what it was last at before it fell asleep. Pure.

use serde::Serialize;

use crate::http::format::Moment;
use crate::instances::{AwakeLedger, Job, LastWork, Open, Work};

/// What is said of it to its owner and to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    pub lead: &'static str,
    pub lines: Vec<Line>,
    pub end: Line,
}

/// A few words and the moment that they lead to, if they do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub text: String,
    pub at: Option<Moment>,
}

impl Line {
    fn new(text: impl Into<String>, at: impl Into<Option<crate::clock::Timestamp>>) -> Self {
        Self { text: text.into(), at: at.into().map(Moment) }
    }
}

/// Says why an instance is awake, or after what it sleeps.
#[must_use]
pub fn why(ledger: &AwakeLedger, awake: bool) -> Why {
    if !awake {
        let line = |last: LastWork| Line::new(format!("{}, at", counted(last.work, 1)), last.at);
        let lines = ledger.last.map(line).into_iter().collect();
        return Why { lead: "What it was last at", lines, end: Line::new("Idle since", ledger.idle_since) };
    }
    let (holds, moves): (Vec<&Open>, Vec<&Open>) = ledger.open.iter().partition(|open| open.holds);
    let mut lines: Vec<Line> = holds.into_iter().map(held).collect();
    lines.extend(ledger.jobs.iter().map(job));
    lines.extend(moves.into_iter().map(flow));
    let shown = |last: &LastWork| ledger.open.iter().any(|open| !open.holds && open.work == last.work);
    lines.extend(ledger.last.filter(|last| ledger.sleeps_at.is_some() && !shown(last)).map(last));
    let end = match ledger.sleeps_at {
        Some(at) => Line::new("If nothing more happens it sleeps at", at),
        None => {
            let wait = minutes(ledger.sleeps_after_seconds);
            Line::new(format!("It sleeps {wait} after the last of these has ended."), None)
        }
    };
    Why { lead: "What keeps it awake", lines, end }
}

fn held(open: &Open) -> Line {
    Line::new(format!("{}, since", counted(open.work, open.count)), open.since)
}

fn flow(open: &Open) -> Line {
    Line::new(format!("{}, open; last moved", counted(open.work, open.count)), open.moved_at)
}

fn job(job: &Job) -> Line {
    Line::new(format!("The job {}, until at most", job.name), job.until)
}

/// The last work, to be read before a time.
#[must_use]
pub fn last(last: LastWork) -> Line {
    Line::new(format!("{}, last at", counted(last.work, 1)), last.at)
}

/// How long, in whole minutes where it is any.
fn minutes(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (1, 0) => "a minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}

/// Work of one kind, as the beginning of a sentence.
fn counted(work: Work, count: usize) -> String {
    let (one, many) = match work {
        Work::Request => ("A request", "requests"),
        Work::Upload => ("An upload", "uploads"),
        Work::Stream => ("An answer on its way", "answers on their way"),
        Work::Socket => ("A WebSocket", "WebSockets"),
        Work::AiCall => ("An AI call", "AI calls"),
        Work::Job => ("A declared job", "declared jobs"),
        Work::Processor => ("Its own processor use", "processors"),
        Work::Probe => ("A look by a browser or monitor", "looks by browsers or monitors"),
        Work::Letter => ("A letter being delivered", "letters being delivered"),
    };
    if count == 1 { one.to_owned() } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    fn open(work: Work, count: usize, holds: bool) -> Open {
        Open { work, count, since: at(10), holds, moved_at: at(20) }
    }

    #[test]
    fn what_holds_comes_first_and_the_end_is_open_while_it_does() {
        let mut ledger = AwakeLedger {
            open: vec![open(Work::Request, 2, true), open(Work::Socket, 1, false), open(Work::AiCall, 1, true)],
            jobs: vec![Job { name: "build".into(), since: at(0), until: at(90) }],
            idle_since: at(20),
            last: Some(LastWork { work: Work::Socket, at: at(20) }),
            sleeps_at: None,
            sleeps_after_seconds: 300,
        };
        let said = why(&ledger, true);
        let texts: Vec<&str> = said.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            ["2 requests, since", "An AI call, since", "The job build, until at most", "A WebSocket, open; last moved"]
        );
        assert_eq!(said.end, Line::new("It sleeps 5 minutes after the last of these has ended.", None));
        ledger = AwakeLedger { open: Vec::new(), jobs: Vec::new(), sleeps_at: Some(at(320)), ..ledger };
        let said = why(&ledger, true);
        assert_eq!(said.lines, [Line::new("A WebSocket, last at", at(20))]);
        assert_eq!(said.end.at, Some(Moment(at(320))));
        assert_eq!(why(&ledger, false).end, Line::new("Idle since", at(20)));
    }
}
