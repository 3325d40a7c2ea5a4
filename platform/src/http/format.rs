//! View formatting: states of instances, times, durations and amounts of money in words. Pure.

use std::fmt;
use std::time::Duration;

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use serde::Serialize;

use crate::instances::{Cause, Fact, InstanceStatus, WakeStage, Wish};
pub use crate::quota::dollars;

/// The state of an instance as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateView {
    /// `awake`, `asleep`, `moving` or `trouble`: the class of the status light in the stylesheet.
    pub lamp: &'static str,
    /// One or two words.
    pub headline: &'static str,
    /// When this state began.
    pub since: Moment,
    /// The cause, as a phrase that follows the time: "idle".
    pub cause: &'static str,
    /// The consequence for the owner, in a sentence.
    pub meaning: String,
    pub can_wake: bool,
    pub can_sleep: bool,
    /// Whether a step has taken too long; the page then offers to stop the instance.
    pub stuck: bool,
}

/// Describes the state of an instance at `now`.
#[must_use]
pub fn state(status: &InstanceStatus, now: Timestamp) -> StateView {
    let suspended = status.wish == Wish::Suspended;
    // A wish that only the operator or a deletion sets comes before the observed state: its owner cannot wake the
    // instance.
    let closed = status.wish.is_closed();
    let meaning = match (status.wish, &status.failure) {
        (Wish::Suspended, _) => "The operator has suspended this account. Your files are kept.".to_owned(),
        (Wish::Leaving, _) => {
            "Your account is scheduled for deletion. Your files are kept until then, and you can still cancel."
                .to_owned()
        }
        (Wish::Removed, _) => REMOVED.to_owned(),
        (_, Some(failure)) if status.fact == Fact::Failed => failure.clone(),
        _ => meaning(status.fact).to_owned(),
    };
    // A closed instance is never called stuck: its owner could not start it again.
    let stuck = !closed && status.is_stuck(now);
    let meaning = if stuck { format!("{meaning} {STUCK}") } else { meaning };
    StateView {
        lamp: lamp(status.fact),
        headline: if suspended { "Suspended" } else { headline(status.fact) },
        since: Moment(status.since),
        cause: cause(status.cause),
        meaning,
        can_wake: !closed && matches!(status.fact, Fact::Frozen | Fact::Stopped | Fact::Absent | Fact::Failed),
        can_sleep: !closed && status.fact == Fact::Awake,
        stuck,
    }
}

/// The status light of a state, which is also its class in the stylesheet.
#[must_use]
pub fn lamp(fact: Fact) -> &'static str {
    match fact {
        Fact::Awake => "awake",
        Fact::Frozen | Fact::Stopped | Fact::Absent | Fact::Removed => "asleep",
        Fact::Provisioning
        | Fact::Freezing
        | Fact::Thawing
        | Fact::Stopping
        | Fact::Waking
        | Fact::Upgrading
        | Fact::Removing => "moving",
        Fact::Failed => "trouble",
    }
}

/// A state in one or two words.
#[must_use]
pub fn headline(fact: Fact) -> &'static str {
    match fact {
        Fact::Absent => "Not created yet",
        Fact::Provisioning => "Being created",
        Fact::Awake => "Awake",
        Fact::Freezing | Fact::Stopping => "Going to sleep",
        Fact::Frozen => "Asleep, frozen",
        Fact::Stopped => "Asleep, stopped",
        Fact::Thawing | Fact::Waking => "Waking",
        Fact::Upgrading => "Being upgraded",
        Fact::Removing => "Being removed",
        Fact::Removed => "Removed",
        Fact::Failed => "Failed",
    }
}

const STUCK: &str = "This has taken more than five minutes, which is too long. Stop it, then open it again: it starts afresh, with your files.";

const REMOVED: &str = "The operator removed the container. Your files are kept; ask the operator to wake it.";

fn meaning(fact: Fact) -> &'static str {
    match fact {
        Fact::Absent => {
            "There is no container at the moment. Your files are kept, and your next visit creates a new one."
        }
        Fact::Provisioning => "Your volume and your container are being created. This takes a few seconds.",
        Fact::Awake => "It is running. When it has nothing to do, it goes to sleep by itself.",
        Fact::Freezing => "It is being paused. Everything in memory is kept.",
        Fact::Frozen => {
            "It is paused with everything in memory as you left it. Your next visit wakes it in milliseconds."
        }
        Fact::Thawing => "It is being thawed. This takes milliseconds.",
        Fact::Stopping => "It is being stopped. Your files are kept.",
        Fact::Stopped => "Its memory has been released; your files are kept. Your next visit starts it again.",
        Fact::Waking => "It has been started and does not answer yet. One moment.",
        Fact::Upgrading => "A newer container is replacing the old one. Your files are kept.",
        Fact::Removing => "The container is being removed. Your files are kept.",
        Fact::Removed => REMOVED,
        Fact::Failed => "The last step failed. It is retried with growing pauses.",
    }
}

/// The cause of a change, as a phrase that follows its time.
#[must_use]
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::SignUp => "you signed up",
        Cause::Visit => "you visited it",
        Cause::OwnerAsked => "you asked",
        Cause::OperatorAsked => "the operator asked",
        Cause::Idle => "idle",
        Cause::Alarm => "its alarm rang",
        Cause::Webhook => "a webhook came for it",
        Cause::Pressure => "the server needed its memory",
        Cause::Upgrade => "upgraded",
        Cause::FoundSo => "detected by the server",
        Cause::Failure => "a step failed",
    }
}

/// One step of a wake, for the pages that show its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeStep {
    pub stage: &'static str,
    pub text: &'static str,
    /// `done`, `now` or `later`.
    pub progress: &'static str,
}

/// The four steps of a wake, given the last one that is done.
#[must_use]
pub fn steps(stage: WakeStage) -> [WakeStep; 4] {
    let all = [
        (WakeStage::Volume, "volume", "Your volume"),
        (WakeStage::Container, "container", "Your container"),
        (WakeStage::Started, "started", "Starting it"),
        (WakeStage::Ready, "ready", "Ready"),
    ];
    let next = all.iter().position(|(step, ..)| *step > stage);
    let mut position = 0..;
    all.map(|(step, name, text)| {
        // The step under way is the first after the last one done.
        let now = position.next() == next;
        let progress = if step <= stage {
            "done"
        } else if now {
            "now"
        } else {
            "later"
        };
        WakeStep { stage: name, text, progress }
    })
}

/// A time in UTC. `Display` is for browsers without JavaScript; others show it in the reader's own time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Moment {
    /// RFC 3339: `2026-11-20T14:02:09Z`, for `<time datetime>`.
    #[must_use]
    pub fn machine(&self) -> String {
        self.0.rfc3339()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_utc().format("%-d %b, %H:%M UTC"))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.machine())
    }
}

/// A duration in its largest whole unit: `7 days`, `1 hour`.
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// A whole number in groups of three digits: `1 234 567`, with thin spaces.
#[must_use]
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    format!("{}{}", if number < 0 { "-" } else { "" }, groups.join("\u{2009}"))
}

/// Amounts of one column in dollars with the same number of decimals: enough to show each exactly, or two significant
/// digits of the smallest.
#[must_use]
pub fn column(amounts: &[Nanodollars]) -> Vec<String> {
    let sizes = || amounts.iter().map(|amount| amount.0.unsigned_abs()).filter(|size| *size > 0);
    // At most nine decimals: amounts are whole nano-dollars.
    let shows_least = |decimals| sizes().all(|size| size >= 10_u64.pow(10 - decimals));
    let is_exact = |decimals| sizes().all(|size| size.is_multiple_of(10_u64.pow(9 - decimals)));
    let decimals = (2..9).find(|decimals| shows_least(*decimals) || is_exact(*decimals)).unwrap_or(9);
    amounts.iter().map(|amount| rounded(*amount, decimals)).collect()
}

/// One amount for a headline: in cents, or with two significant digits below a cent.
#[must_use]
pub fn about(amount: Nanodollars) -> String {
    column(&[amount]).remove(0)
}

/// Like [`about`], for an amount that can be spent: rounded down, so that it never promises more than there is.
#[must_use]
pub fn at_least(amount: Nanodollars) -> String {
    const CENT: i64 = 10_000_000;
    let Nanodollars(exact) = amount;
    about(Nanodollars(if exact > 10 * CENT { exact - exact % CENT } else { exact.max(0) }))
}

fn rounded(amount: Nanodollars, decimals: u32) -> String {
    let unit = 10_u64.pow(9 - decimals);
    // Half up, on the absolute value: `unsigned_abs` also holds for the smallest i64.
    let units = amount.0.unsigned_abs().saturating_add(unit / 2) / unit;
    let (whole, rest) = (units / 10_u64.pow(decimals), units % 10_u64.pow(decimals));
    // An amount that rounds to zero has no sign.
    let sign = if amount < Nanodollars::ZERO && units > 0 { "-" } else { "" };
    format!("{sign}${whole}.{rest:0width$}", width = decimals as usize)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A month (`2026-11`) as `November 2026`.
#[must_use]
pub fn month(period: &str) -> String {
    match period.split_once('-').and_then(|(year, month)| Some((year, name_of_month(month)?))) {
        Some((year, month)) => format!("{month} {year}"),
        None => period.to_owned(),
    }
}

/// A day (`2026-11-05`) as `5 Nov`.
#[must_use]
pub fn day(name: &str) -> String {
    let parts = name.split_once('-').and_then(|(_, rest)| rest.split_once('-'));
    match parts.and_then(|(month, day)| Some((name_of_month(month)?, day))) {
        Some((month, day)) => format!("{} {}", day.trim_start_matches('0'), &month[..3]),
        None => name.to_owned(),
    }
}

fn name_of_month(number: &str) -> Option<&'static str> {
    MONTHS.get(number.parse::<usize>().ok()?.checked_sub(1)?).copied()
}

/// Percent-encodes a text as a value in a query string: everything but unreserved characters (RFC 3986 2.3).
#[must_use]
pub fn query_value(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_groups_of_three() {
        assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(grouped(12), "12");
    }

    #[test]
    fn amounts_of_a_column_have_as_many_decimals_as_the_least_needs() {
        let column = |amounts: &[i64]| column(&amounts.iter().copied().map(Nanodollars).collect::<Vec<_>>());
        let about = |amount| about(Nanodollars(amount));
        let at_least = |amount| at_least(Nanodollars(amount));
        assert_eq!(column(&[1_500_000_000, 230_000_000, 0]), ["$1.50", "$0.23", "$0.00"]);
        assert_eq!(column(&[1_500_000_000, 50_000_000]), ["$1.50", "$0.05"]);
        assert_eq!(column(&[1_500_000_000, 31_000]), ["$1.500000", "$0.000031"]);
        assert_eq!(column(&[1_999_999_999, -5]), ["$1.999999999", "-$0.000000005"]);
        assert_eq!(
            (about(1_234_567_890), about(42_000_000), about(0)),
            ("$1.23".into(), "$0.042".into(), "$0.00".into())
        );
        assert_eq!(
            (at_least(4_999_999_999), at_least(-5), at_least(1)),
            ("$4.99".into(), "$0.00".into(), "$0.000000001".into())
        );
        assert_eq!(about(i64::MIN), "-$9223372036.85");
    }

    #[test]
    fn months_and_days_are_said_by_their_names() {
        assert_eq!((month("2026-11").as_str(), day("2026-11-05").as_str()), ("November 2026", "5 Nov"));
        assert_eq!((month("2026-13").as_str(), day("then").as_str()), ("2026-13", "then"));
    }

    #[test]
    fn a_span_is_said_in_its_largest_unit() {
        for (seconds, said) in [
            (604_800, "7 days"),
            (86_400, "1 day"),
            (7199, "1 hour"),
            (120, "2 minutes"),
            (1, "1 second"),
            (0, "0 seconds"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn moments_are_dates() {
        for (seconds, machine, people) in [
            (0, "1970-01-01T00:00:00Z", "1 Jan, 00:00 UTC"),
            (951_782_400, "2000-02-29T00:00:00Z", "29 Feb, 00:00 UTC"),
            (1_795_183_329, "2026-11-20T14:02:09Z", "20 Nov, 14:02 UTC"),
            (-1, "1969-12-31T23:59:59Z", "31 Dec, 23:59 UTC"),
        ] {
            let moment = Moment(Timestamp(seconds * 1000));
            assert_eq!((moment.machine().as_str(), moment.to_string().as_str()), (machine, people));
        }
    }

    #[test]
    fn the_step_after_the_last_done_is_the_one_under_way() {
        let progress = |stage| steps(stage).map(|step| step.progress);
        assert_eq!(progress(WakeStage::Asked), ["now", "later", "later", "later"]);
        assert_eq!(progress(WakeStage::Container), ["done", "done", "now", "later"]);
        assert_eq!(progress(WakeStage::Ready), ["done"; 4]);
    }

    #[test]
    fn a_failure_is_shown_as_its_own_sentence_and_a_suspension_goes_before_it() {
        let mut status = InstanceStatus {
            wish: Wish::Available,
            fact: Fact::Failed,
            since: Timestamp(0),
            cause: Cause::Failure,
            stage: WakeStage::Volume,
            failure: Some("The disk is full.".into()),
        };
        assert_eq!(state(&status, Timestamp(0)).meaning, "The disk is full.");
        assert!(state(&status, Timestamp(0)).can_wake);
        status.wish = Wish::Suspended;
        assert!(state(&status, Timestamp(0)).meaning.contains("suspended"));
        assert!(!state(&status, Timestamp(0)).can_wake);
    }

    #[test]
    fn a_removed_instance_keeps_its_files_and_only_the_operator_wakes_it() {
        for fact in [Fact::Removed, Fact::Failed, Fact::Stopped, Fact::Absent, Fact::Awake] {
            let status = InstanceStatus {
                wish: Wish::Removed,
                fact,
                since: Timestamp(0),
                cause: Cause::OperatorAsked,
                stage: WakeStage::Asked,
                failure: (fact == Fact::Failed).then(|| "The engine does not answer.".into()),
            };
            let said = state(&status, Timestamp(0));
            assert!(said.meaning.contains("Your files are kept; ask the operator"), "{fact:?}: {}", said.meaning);
            assert!(!said.can_wake && !said.can_sleep, "{fact:?}");
        }
        assert!(!meaning(Fact::Removing).contains("volume"));
    }
}
