//! The calendar: dates in UTC, and RFC 3339 text, by chrono. The only place that computes with years, months and days;
//! the modules build their own periods from it (a budget's month, a day of the books).

use chrono::{DateTime, NaiveTime, SecondsFormat, Utc};
/// A date without a time zone, here always UTC, and the traits and types for date arithmetic: `date.year()`, `date +
/// Months::new(1)`, `date.succ_opt()`. Written as `2026-11-25`. Parsing is more lenient than writing (it accepts
/// `2026-11-5`): where a date must have one spelling, compare the text.
pub use chrono::{Datelike, Days, Months, NaiveDate};

use crate::clock::Timestamp;

impl Timestamp {
    /// The date in UTC.
    #[must_use]
    pub fn utc_date(self) -> NaiveDate {
        self.to_utc().date_naive()
    }

    /// Midnight in UTC at which `date` begins.
    #[must_use]
    pub fn midnight(date: NaiveDate) -> Self {
        Self(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    }

    /// `2026-11-20T14:02:09Z`: RFC 3339 with whole seconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// This moment as chrono's type, for other formats. chrono covers 262 000 years either way; moments beyond are
    /// clamped.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        let furthest = if self.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        DateTime::from_timestamp_millis(self.0).unwrap_or(furthest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_turn_at_midnight_in_utc() {
        for (ms, date, text) in [
            (0, "1970-01-01", "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28", "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29", "2000-02-29T00:00:00Z"),
            (1_796_083_200_000, "2026-12-01", "2026-12-01T00:00:00Z"),
            (-1, "1969-12-31", "1969-12-31T23:59:59Z"),
        ] {
            let at = Timestamp(ms);
            assert_eq!((at.utc_date().to_string().as_str(), at.rfc3339().as_str()), (date, text));
        }
    }

    #[test]
    fn a_moment_that_no_calendar_knows_has_a_date_all_the_same() {
        assert!(Timestamp(i64::MAX).utc_date() > Timestamp(i64::MIN).utc_date());
    }

    proptest! {
        #[test]
        fn a_day_begins_at_its_own_midnight(ms in -100_000_000_000_000_i64..100_000_000_000_000) {
            let at = Timestamp(ms);
            let midnight = Timestamp::midnight(at.utc_date());
            prop_assert_eq!(midnight.utc_date(), at.utc_date());
            prop_assert!(midnight <= at && at.0 - midnight.0 < 86_400_000);
        }
    }
}
