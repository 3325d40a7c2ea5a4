//! The rules of alarms: cron expressions, the next time of a schedule, and validation. Pure; times are UTC.

use std::time::Duration;

use berth_ground::clock::Timestamp;
use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Alarms that one instance may have set.
pub const MAX_ALARMS: usize = 32;
/// Longest name, in characters.
pub const MAX_NAME_LENGTH: usize = 64;
/// How far ahead an alarm may ring next.
pub const MAX_AHEAD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Maximum length of a cron expression: far above any written by hand, low enough to bound the cost of parsing.
const MAX_PATTERN_LENGTH: usize = 100;
/// Retry interval of a one-time alarm that came due while its instance was closed.
const CLOSED_RETRY: Duration = Duration::from_secs(60 * 60);

/// When an alarm rings: once, or repeatedly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    At(Timestamp),
    /// A cron pattern of five fields: without a field for seconds, two times are at least a minute apart.
    Cron(String),
}

/// The first time of a schedule after `now`.
///
/// # Errors
/// The invalid field, and a sentence for the program.
pub fn first(schedule: &Schedule, now: Timestamp) -> Result<Timestamp, (&'static str, String)> {
    let (field, at) = match schedule {
        Schedule::At(at) if *at <= now => {
            return Err(("at", "This moment has passed already. It is read as UTC, or as seconds since 1970.".into()));
        }
        Schedule::At(at) => ("at", *at),
        Schedule::Cron(pattern) => ("cron", after(&parse(pattern).map_err(|sentence| ("cron", sentence))?, now)?),
    };
    // A time in milliseconds, read as seconds, is thousands of years ahead: this limit catches that mistake too.
    if at.since(now) > MAX_AHEAD {
        return Err((field, "It would ring more than 366 days from now. A number is in seconds since 1970.".into()));
    }
    Ok(at)
}

/// The next time after `now` of an alarm that rang; `None` for one that rings once. Times that were missed are skipped.
#[must_use]
pub fn next(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::At(_) => None,
        // It was validated when it was set. A stored expression that no longer parses ends the alarm instead of failing
        // every round.
        Schedule::Cron(pattern) => after(&parse(pattern).ok()?, now).ok(),
    }
}

/// When to try an alarm of a closed instance again: it does not ring, and the instance may be restored later.
#[must_use]
pub fn next_while_closed(schedule: &Schedule, now: Timestamp) -> Timestamp {
    next(schedule, now).unwrap_or_else(|| now.plus(CLOSED_RETRY))
}

/// Whether this can be an alarm's name, which is part of a URL path and the value of a header.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        // `.` and `..` as a path segment would be resolved away by HTTP clients.
        && !name.bytes().all(|byte| byte == b'.')
}

fn parse(pattern: &str) -> Result<Cron, String> {
    let example = "Five fields are wanted, such as 30 6 * * MON-FRI: minute, hour, day, month, weekday, all in UTC.";
    if pattern.len() > MAX_PATTERN_LENGTH {
        return Err(format!("This pattern is too long. {example}"));
    }
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(pattern)
        .map_err(|error| format!("This is no cron pattern: {error}. {example}"))
}

fn after(cron: &Cron, now: Timestamp) -> Result<Timestamp, (&'static str, String)> {
    let now = DateTime::<Utc>::from_timestamp_millis(now.0).ok_or(("cron", "The clock is out of range.".into()))?;
    // Exclusive of `now`: an alarm that rings on its exact minute would otherwise be due again at once.
    match cron.find_next_occurrence(&now, false) {
        Ok(next) => Ok(Timestamp(next.timestamp_millis())),
        Err(_) => Err(("cron", "No day matches this pattern.".into())),
    }
}

/// Parses an RFC 3339 time with its offset.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp(at.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        moment(text).unwrap()
    }

    fn cron(pattern: &str) -> Schedule {
        Schedule::Cron(pattern.into())
    }

    #[test]
    fn patterns_have_five_fields_and_mean_utc() {
        let now = at("2026-11-21T12:00:30Z");
        for (pattern, rings) in [
            ("* * * * *", "2026-11-21T12:01:00Z"),
            ("0 12 * * *", "2026-11-22T12:00:00Z"),
            ("30 6 * * MON-FRI", "2026-11-23T06:30:00Z"),
            ("0 0 1 1 *", "2027-01-01T00:00:00Z"),
            ("*/15 13 * * *", "2026-11-21T13:00:00Z"),
            ("0 9 L * *", "2026-11-30T09:00:00Z"),
            ("@hourly", "2026-11-21T13:00:00Z"),
        ] {
            assert_eq!(first(&cron(pattern), now), Ok(at(rings)), "{pattern}");
        }
        let long = "1,".repeat(60);
        for pattern in [
            "",
            "* * * *",
            "* * * * * *",
            "0 0 0 1 1 * 2027",
            "61 * * * *",
            "a b c d e",
            "0 0 30 2 *",
            "0 0 29 2 *",
            &long,
        ] {
            let (field, sentence) = first(&cron(pattern), now).unwrap_err();
            assert!(field == "cron" && sentence.ends_with('.'), "{pattern}: {sentence}");
        }
    }

    #[test]
    fn a_time_is_in_the_future_and_not_too_far() {
        let now = at("2026-11-21T12:00:00Z");
        assert_eq!(moment("2026-11-21T13:00:00+01:00"), Some(now));
        for (text, good) in [
            ("2026-11-21T12:00:01Z", true),
            ("2027-11-22T12:00:00Z", true),
            ("2026-11-21T12:00:00Z", false),
            ("2020-01-01T00:00:00Z", false),
            ("2027-11-22T12:00:01Z", false),
        ] {
            assert_eq!(first(&Schedule::At(at(text)), now).is_ok(), good, "{text}");
        }
        for text in ["", "tomorrow", "2026-11-21", "2026-11-21T12:00:00", "1795183329"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_plain() {
        for (name, good) in [
            ("nightly", true),
            ("a.b_c-9", true),
            ("", false),
            ("..", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
        assert!(!is_name(&"x".repeat(MAX_NAME_LENGTH + 1)));
    }

    proptest! {
        #[test]
        fn two_times_of_a_pattern_are_a_minute_apart_and_in_order(
            minute in "(\\*|[0-9]|[1-5][0-9]|\\*/[1-9])", hour in "(\\*|[0-9]|1[0-9])", now in 0i64..4_000_000_000_000
        ) {
            let schedule = cron(&format!("{minute} {hour} * * *"));
            let mut last = next(&schedule, Timestamp(now)).unwrap();
            prop_assert!(last.0 > now);
            for _ in 0..5 {
                let then = next(&schedule, last).unwrap();
                prop_assert!(then.since(last) >= Duration::from_secs(60));
                last = then;
            }
        }

        #[test]
        fn the_next_time_is_in_the_future_whatever_was_missed(missed in 0i64..1_000_000_000, now in 1_000_000_000i64..2_000_000_000) {
            let schedule = cron("*/5 * * * *");
            let due = next(&schedule, Timestamp(missed * 1000)).unwrap();
            prop_assert!(next(&schedule, Timestamp(now * 1000).max(due)).unwrap().0 > now * 1000);
        }
    }
}
