//! Columns by day as shapes of an SVG: made here, so that a page needs no script, and drawn in the colours of the stylesheet.
//! Pure. The table beside each says the same in figures.

use crate::http::format::{self, dollars};

/// How wide a column is with its gap, and how tall the whole is, in the picture's own units.
const STEP: usize = 10;
const TALL: i64 = 1000;
/// The least that an amount which is not nothing is drawn with.
const LEAST: i64 = 6;

/// A column for each day of a month, from zero on.
pub struct Columns {
    /// What it shows, in a sentence.
    pub summary: String,
    pub width: usize,
    pub columns: Vec<Column>,
    /// What the lines stand for: the top, the middle, zero.
    pub lines: [String; 3],
    /// Below each column, empty where it would be too much.
    pub labels: Vec<String>,
}

/// One column, and the same in words.
pub struct Column {
    pub x: usize,
    pub y: i64,
    pub height: i64,
    /// `14 Nov`
    pub day: String,
    pub calls: String,
    pub amount: String,
}

/// What one day came to: its name, `2026-11-14`, calls and nano-dollars.
pub type Day<'a> = (&'a str, i64, i64);

impl Columns {
    /// Of `days`, which are all days of a month in their order, up to the present one in the present month.
    #[must_use]
    pub fn of(all: &[String], days: &[Day<'_>]) -> Self {
        let top = nice(days.iter().map(|(_, _, amount)| *amount).max().unwrap_or(0));
        let amounts = format::column(&days.iter().map(|(_, _, amount)| *amount).collect::<Vec<_>>());
        let columns = days.iter().zip(amounts).filter_map(|((day, calls, amount), said)| {
            let at = all.iter().position(|name| name == day)?;
            let height = if *amount > 0 { scaled(*amount, top).clamp(LEAST, TALL) } else { 0 };
            let (day, calls) = (format::day(day), format::grouped(*calls));
            Some(Column { x: at * STEP, y: TALL - height, height, day, calls, amount: said })
        });
        let labels = (1..=all.len()).map(|day| if day % 7 == 1 { day.to_string() } else { String::new() });
        Self {
            summary: summary(days),
            width: all.len() * STEP,
            columns: columns.collect(),
            lines: [dollars(top), dollars(top / 2), "$0".into()],
            labels: labels.collect(),
        }
    }
}

fn summary(days: &[Day<'_>]) -> String {
    let Some((dearest, _, most)) = days.iter().max_by_key(|(_, _, amount)| *amount) else {
        return "Nothing was spent".into();
    };
    let count = days.len();
    let days = if count == 1 { "one day".into() } else { format!("{count} days") };
    format!("Spend by day: calls on {days}, the dearest {} with {}", format::day(dearest), format::about(*most))
}

fn scaled(amount: i64, top: i64) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(TALL) / i128::from(top)).unwrap_or(TALL)
}

/// The least of 2, 4, 6, 8 and 10 times a power of ten that is no less than `amount`: the half of each is plain as well.
fn nice(amount: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            match power.checked_mul(step) {
                Some(top) if top >= amount => return top,
                Some(_) => {}
                None => return i64::MAX,
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn november() -> Vec<String> {
        (1..=30).map(|day| format!("2026-11-{day:02}")).collect()
    }

    #[test]
    fn columns_stand_on_zero_under_a_plain_figure_and_none_is_lost() {
        let days = [("2026-11-01", 3, 310_000_000), ("2026-11-14", 9, 155_000_000), ("2026-11-30", 1, 1)];
        let chart = Columns::of(&november(), &days);
        assert_eq!(chart.lines, ["$0.40", "$0.20", "$0"]);
        let shapes: Vec<_> = chart.columns.iter().map(|column| (column.x, column.y, column.height)).collect();
        assert_eq!(shapes, [(0, 225, 775), (130, 613, 387), (290, 994, 6)]);
        assert_eq!((chart.width, chart.labels.len()), (300, 30));
        assert_eq!(chart.summary, "Spend by day: calls on 3 days, the dearest 1 Nov with $0.31");
    }

    #[test]
    fn a_month_without_calls_is_an_empty_chart() {
        let chart = Columns::of(&november(), &[]);
        assert!(chart.columns.is_empty());
        assert_eq!(chart.summary, "Nothing was spent");
    }

    #[test]
    fn the_top_is_the_least_plain_figure_above() {
        for (amount, top) in [(0, 2), (2, 2), (3, 4), (5, 6), (11, 20), (40_000_000, 40_000_000), (41, 60)] {
            assert_eq!(nice(amount), top, "{amount}");
        }
        assert_eq!(nice(i64::MAX), i64::MAX);
    }
}
