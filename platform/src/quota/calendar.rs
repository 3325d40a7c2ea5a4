//! The periods of a budget: months and days in UTC.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use berth_ground::calendar::{Datelike as _, Months, NaiveDate};
use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// A calendar month. It is written `2026-11`, in URLs, JSON and tables alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Month {
    first: NaiveDate,
}

/// A day. It is written `2026-11-25`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Day(NaiveDate);

/// A month or a day: what an allowance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Period {
    Month(Month),
    Day(Day),
}

/// From one day to another, both included.
pub type DayRange = RangeInclusive<Day>;

/// A text that is no period, or a period in another spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a month such as 2026-11, or a day such as 2026-11-25")]
pub struct PeriodError;

impl Month {
    /// The month of `at`.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Day::of(at).month()
    }

    #[must_use]
    pub fn first_day(self) -> Day {
        Day(self.first)
    }

    #[must_use]
    pub fn last_day(self) -> Day {
        Day(self.next().first.pred_opt().unwrap_or(self.first))
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        // chrono's calendar ends in the year 262143; there, time stands still.
        Self { first: self.first.checked_add_months(Months::new(1)).unwrap_or(self.first) }
    }

    /// From its first day to its last.
    #[must_use]
    pub fn range(self) -> DayRange {
        self.first_day()..=self.last_day()
    }

    /// Its days, in their order.
    pub fn days(self) -> impl Iterator<Item = Day> {
        std::iter::successors(Some(self.first_day()), |day| Some(day.next())).take_while(move |day| day.month() == self)
    }
}

impl Day {
    /// Before every day on which a receipt was written, and after. Both are written with four digits, as the tables
    /// compare them.
    pub const FIRST: Self = Self(NaiveDate::from_ymd_opt(1, 1, 1).expect("a date"));
    pub const LAST: Self = Self(NaiveDate::from_ymd_opt(9999, 12, 31).expect("a date"));

    /// The day of `at`.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.utc_date())
    }

    /// The month that it is part of.
    #[must_use]
    pub fn month(self) -> Month {
        Month { first: self.0.with_day(1).unwrap_or(self.0) }
    }

    /// The day after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.succ_opt().unwrap_or(self.0))
    }

    /// The moment at which it begins, in UTC.
    #[must_use]
    pub fn midnight(self) -> Timestamp {
        Timestamp::midnight(self.0)
    }

    /// The day alone, as a range.
    #[must_use]
    pub fn alone(self) -> DayRange {
        self..=self
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that commands may align it in a column.
        f.pad(&self.0.to_string())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Month(month) => month.fmt(f),
            Self::Day(day) => day.fmt(f),
        }
    }
}

impl FromStr for Day {
    type Err = PeriodError;

    /// Reads `2026-11-25`, and no other spelling.
    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let day = text.parse().map(Self).map_err(|_| PeriodError)?;
        // chrono also reads `2026-11-5`. In the tables, a day in two spellings would be two days.
        if day.to_string() == text { Ok(day) } else { Err(PeriodError) }
    }
}

impl FromStr for Month {
    type Err = PeriodError;

    /// Reads `2026-11`, and no other spelling.
    fn from_str(text: &str) -> Result<Self, PeriodError> {
        Ok(format!("{text}-01").parse::<Day>()?.month())
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        text.parse().map(Self::Month).or_else(|_| text.parse().map(Self::Day))
    }
}

/// serde writes and reads each as its text.
macro_rules! as_text {
    ($($period:ty),*) => {$(
        impl From<$period> for String {
            fn from(period: $period) -> Self {
                period.to_string()
            }
        }

        impl TryFrom<String> for $period {
            type Error = PeriodError;

            fn try_from(text: String) -> Result<Self, PeriodError> {
                text.parse()
            }
        }
    )*};
}

as_text!(Month, Day, Period);

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
            let reset = Month::of(at).next().first_day();
            assert_eq!(
                (&*Month::of(at).to_string(), &*Day::of(at).to_string(), &*reset.to_string()),
                (month, today, next)
            );
        }
        assert_eq!(Day::of(Timestamp(1_796_083_199_999)).next().to_string(), "2026-12-01");
        assert_eq!(Day::of(Timestamp(1_796_083_199_999)).next().midnight(), Timestamp(1_796_083_200_000));
    }

    #[test]
    fn a_month_is_written_in_one_way_and_knows_its_days() {
        for (written, last) in [("2026-11", 30), ("2026-02", 28), ("2028-02", 29), ("2000-02", 29), ("1900-02", 28)] {
            let month: Month = written.parse().unwrap();
            assert_eq!(
                (month.to_string(), month.last_day().to_string()),
                (written.into(), format!("{written}-{last}"))
            );
            assert_eq!((month.first_day().to_string(), month.first_day().month()), (format!("{written}-01"), month));
            assert_eq!((month.days().count(), month.days().last()), (last, Some(month.last_day())));
        }
        for (text, is_day) in [("2026-11-30", true), ("2026-11-31", false), ("2026-11-1", false), ("2026-11", false)] {
            assert_eq!(text.parse::<Day>().is_ok(), is_day, "{text}");
        }
        for nonsense in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "+026-11", "2026- 1"] {
            assert_eq!(nonsense.parse::<Month>(), Err(PeriodError), "{nonsense}");
        }
    }

    #[test]
    fn a_period_is_its_text_in_json() {
        for text in ["2026-11", "2026-11-25"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(serde_json::to_value(period).unwrap(), serde_json::json!(text));
            assert_eq!(serde_json::from_value::<Period>(serde_json::json!(text)).unwrap(), period);
        }
        assert!(serde_json::from_str::<Month>("\"2026-11-25\"").is_err());
    }

    #[test]
    fn periods_in_the_tables_are_ordered_as_their_texts_are() {
        let november: Month = "2026-11".parse().unwrap();
        for day in [Day::FIRST, Day::LAST] {
            assert_eq!(day.to_string().len(), 10);
        }
        assert!(Day::FIRST < november.first_day() && november.last_day() < Day::LAST);
        assert!(Day::FIRST.to_string() < november.first_day().to_string());
    }
}
