//! Months and days as the books name them: in UTC, by the Gregorian calendar.

use std::fmt;

use crate::clock::Timestamp;

const DAY_SECONDS: i64 = 86_400;

/// The calendar month of `at`, `2026-11`.
#[must_use]
pub fn period(at: Timestamp) -> String {
    let (year, month, _) = at.date();
    format!("{year:04}-{month:02}")
}

/// The day of `at`, `2026-11-25`.
#[must_use]
pub fn day(at: Timestamp) -> String {
    let (year, month, day) = at.date();
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first day of the month after `at`, `2026-12-01`: when the month's allowance is whole again, at midnight.
#[must_use]
pub fn next_month(at: Timestamp) -> String {
    let (year, month, _) = at.date();
    if month == 12 { format!("{:04}-01-01", year + 1) } else { format!("{year:04}-{:02}-01", month + 1) }
}

/// The day after `at`: when the day's allowance is whole again, at midnight.
#[must_use]
pub fn tomorrow(at: Timestamp) -> String {
    day(Timestamp(at.0.saturating_add(DAY_SECONDS * 1000)))
}

/// When the day of `at` is over.
#[must_use]
pub fn midnight_after(at: Timestamp) -> Timestamp {
    let day = at.0.div_euclid(DAY_SECONDS * 1000);
    Timestamp(day.saturating_add(1).saturating_mul(DAY_SECONDS * 1000))
}

/// A calendar month as somebody asks for it; shown as the books name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i64,
    month: i64,
}

impl Month {
    /// The month of `at`.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let (year, month, _) = at.date();
        Self { year, month }
    }

    /// `2026-11`, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let number = |digits: &str, length| {
            (digits.len() == length && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<i64>().ok())
        };
        let (year, month) = (number(year, 4)??, number(month, 2)??);
        (1..=12).contains(&month).then_some(Self { year, month })
    }

    /// The names of its days, in their order.
    #[must_use]
    pub fn days(self) -> Vec<String> {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=days).map(|day| format!("{self}-{day:02}")).collect()
    }

    /// All of it.
    #[must_use]
    pub fn span(self) -> Days {
        Days::in_month(&self.to_string())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// From one day to another, both with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days {
    pub first: String,
    pub last: String,
}

impl Days {
    /// All of a month that the books name so.
    #[must_use]
    pub fn in_month(period: &str) -> Self {
        Self { first: format!("{period}-01"), last: format!("{period}-31") }
    }

    /// Whether `text` names a day as the books do.
    #[must_use]
    pub fn is_day(text: &str) -> bool {
        let month = text.get(..7).and_then(Month::parse);
        month.is_some_and(|month| month.days().iter().any(|day| day == text))
    }

    /// The day of `at` alone.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self { first: day(at), last: day(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_days_turn_at_midnight_in_utc() {
        for (ms, month, today, next) in [
            (0, "1970-01", "1970-01-01", "1970-02-01"),
            (951_782_399_999, "2000-02", "2000-02-28", "2000-03-01"),
            (951_782_400_000, "2000-02", "2000-02-29", "2000-03-01"),
            (951_868_800_000, "2000-03", "2000-03-01", "2000-04-01"),
            (1_794_738_600_000, "2026-11", "2026-11-15", "2026-12-01"),
            (1_796_083_199_999, "2026-11", "2026-11-30", "2026-12-01"),
            (1_796_083_200_000, "2026-12", "2026-12-01", "2027-01-01"),
        ] {
            let at = Timestamp(ms);
            assert_eq!((&*period(at), &*day(at), &*next_month(at)), (month, today, next));
        }
        assert_eq!(tomorrow(Timestamp(1_796_083_199_999)), "2026-12-01");
    }

    #[test]
    fn a_month_is_written_in_one_way_and_knows_its_days() {
        for (written, days) in [("2026-11", 30), ("2026-02", 28), ("2028-02", 29), ("2000-02", 29), ("1900-02", 28)] {
            let month = Month::parse(written).unwrap();
            assert_eq!((month.to_string().as_str(), month.days().len()), (written, days));
            assert_eq!(month.days()[0], month.span().first);
        }
        for (text, is_day) in [("2026-11-30", true), ("2026-11-31", false), ("2026-11-1", false), ("2026-11", false)] {
            assert_eq!(Days::is_day(text), is_day, "{text}");
        }
        for nonsense in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "+026-11", "2026- 1"] {
            assert_eq!(Month::parse(nonsense), None, "{nonsense}");
        }
    }
}
