//! Months and days as the books name them: in UTC, by the Gregorian calendar.

use crate::clock::Timestamp;

const DAY_SECONDS: i64 = 86_400;

/// The calendar month of `at`, `2026-11`.
#[must_use]
pub fn period(at: Timestamp) -> String {
    let (year, month, _) = date(at);
    format!("{year:04}-{month:02}")
}

/// The day of `at`, `2026-11-25`.
#[must_use]
pub fn day(at: Timestamp) -> String {
    let (year, month, day) = date(at);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first day of the month after `at`, `2026-12-01`: when the month's allowance is whole again, at midnight.
#[must_use]
pub fn next_month(at: Timestamp) -> String {
    let (year, month, _) = date(at);
    if month == 12 { format!("{:04}-01-01", year + 1) } else { format!("{year:04}-{:02}-01", month + 1) }
}

/// The day after `at`: when the day's allowance is whole again, at midnight.
#[must_use]
pub fn tomorrow(at: Timestamp) -> String {
    day(Timestamp(at.0.saturating_add(DAY_SECONDS * 1000)))
}

/// Year, month and day of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`).
fn date(at: Timestamp) -> (i64, i64, i64) {
    let days = at.seconds().div_euclid(DAY_SECONDS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
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
}
