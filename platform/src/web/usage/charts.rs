//! A bar chart of amounts by day as SVG shapes, computed on the server so that it needs no script and takes its colours
//! from the stylesheet. Pure. Every chart has the same figures in a table beside it.

use berth_ground::money::Nanodollars;

use crate::http::format::{self, dollars};
use crate::quota::reports::NamedSpend;

/// Width of a column with its gap, and height of the chart, in the SVG's own units.
const STEP: usize = 10;
const TALL: i64 = 1000;
/// Height of the smallest amount above zero.
const LEAST: i64 = 6;

/// A column for each day of a month.
pub struct DayChart {
    /// A sentence with the chart's content, for screen readers.
    pub summary: String,
    pub width: usize,
    pub columns: Vec<DayColumn>,
    /// Labels of the grid lines: top, middle, zero.
    pub lines: [String; 3],
    /// Labels below the columns; empty where there would be too many.
    pub labels: Vec<String>,
}

/// One column with its figures.
pub struct DayColumn {
    pub x: usize,
    pub y: i64,
    pub height: i64,
    /// `14 Nov`
    pub day: String,
    pub calls: String,
    pub amount: String,
}

/// The calls of one day.
pub struct DayTotal<'a> {
    /// `2026-11-14`
    pub day: &'a str,
    pub calls: i64,
    pub nanodollars: Nanodollars,
}

impl<'a> From<&'a NamedSpend> for DayTotal<'a> {
    fn from(sum: &'a NamedSpend) -> Self {
        Self { day: &sum.name, calls: sum.calls, nanodollars: sum.amount_nanodollars }
    }
}

impl DayChart {
    /// Builds the chart. `all` are the days of the month in order; `days` are those that had calls.
    #[must_use]
    pub fn of(all: &[String], days: &[DayTotal<'_>]) -> Self {
        let top = nice(days.iter().map(|day| day.nanodollars).max().unwrap_or_default());
        let amounts = format::column(&days.iter().map(|day| day.nanodollars).collect::<Vec<_>>());
        let columns = days.iter().zip(amounts).filter_map(|(total, amount)| {
            // A day outside the month, which only a wrong clock can produce, is left out.
            let at = all.iter().position(|name| name == total.day)?;
            // A tiny amount keeps a visible column. A correction can make a day negative, which has no column.
            let is_drawn = total.nanodollars > Nanodollars::ZERO;
            let height = if is_drawn { scaled(total.nanodollars, top).clamp(LEAST, TALL) } else { 0 };
            let (day, calls) = (format::day(total.day), format::grouped(total.calls));
            Some(DayColumn { x: at * STEP, y: TALL - height, height, day, calls, amount })
        });
        let labels = (1..=all.len()).map(|day| if day % 7 == 1 { day.to_string() } else { String::new() });
        Self {
            summary: summary(days),
            width: all.len() * STEP,
            columns: columns.collect(),
            lines: [dollars(top), dollars(Nanodollars(top.0 / 2)), "$0".into()],
            labels: labels.collect(),
        }
    }
}

fn summary(days: &[DayTotal<'_>]) -> String {
    let Some(most) = days.iter().max_by_key(|day| day.nanodollars) else {
        return "Nothing was spent".into();
    };
    let count = days.len();
    let days = if count == 1 { "one day".into() } else { format!("{count} days") };
    format!(
        "Cost by day: calls on {days}, the highest on {} with {}",
        format::day(most.day),
        format::about(most.nanodollars)
    )
}

fn scaled(amount: Nanodollars, top: Nanodollars) -> i64 {
    // In 128 bits: amount times height overflows 64 bits from about nine million dollars on.
    i64::try_from(i128::from(amount.0) * i128::from(TALL) / i128::from(top.0)).unwrap_or(TALL)
}

/// The least of 2, 4, 6, 8 and 10 times a power of ten that is at least `amount`. Half of it, the label of the middle
/// line, is a round figure as well.
fn nice(amount: Nanodollars) -> Nanodollars {
    let mut power = 1_i64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            match power.checked_mul(step) {
                Some(top) if top >= amount.0 => return Nanodollars(top),
                Some(_) => {}
                // Past the largest power of ten that fits.
                None => return Nanodollars::MAX,
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
        let total = |day, calls, amount| DayTotal { day, calls, nanodollars: Nanodollars(amount) };
        let days =
            [total("2026-11-01", 3, 310_000_000), total("2026-11-14", 9, 155_000_000), total("2026-11-30", 1, 1)];
        let chart = DayChart::of(&november(), &days);
        assert_eq!(chart.lines, ["$0.40", "$0.20", "$0"]);
        let shapes: Vec<_> = chart.columns.iter().map(|column| (column.x, column.y, column.height)).collect();
        assert_eq!(shapes, [(0, 225, 775), (130, 613, 387), (290, 994, 6)]);
        assert_eq!((chart.width, chart.labels.len()), (300, 30));
        assert_eq!(chart.summary, "Cost by day: calls on 3 days, the highest on 1 Nov with $0.31");
    }

    #[test]
    fn a_month_without_calls_is_an_empty_chart() {
        let chart = DayChart::of(&november(), &[]);
        assert!(chart.columns.is_empty());
        assert_eq!(chart.summary, "Nothing was spent");
    }

    #[test]
    fn the_top_is_the_least_plain_figure_above() {
        for (amount, top) in [(0, 2), (2, 2), (3, 4), (5, 6), (11, 20), (40_000_000, 40_000_000), (41, 60)] {
            assert_eq!(nice(Nanodollars(amount)), Nanodollars(top), "{amount}");
        }
        assert_eq!(nice(Nanodollars::MAX), Nanodollars::MAX);
    }
}
