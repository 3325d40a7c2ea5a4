//! Comparison of a provider's bill with the ledger, by day and model. Pure.
//!
//! A provider's usage export is CSV with a head, JSON, or a JSON object a line. Of its columns three are read: the day
//! (`date`, `day` or `usage_date_utc`), the model (`model` or `model_version`) and the cost in dollars (`cost`,
//! `cost_usd`, `amount` or `amount_usd`). Rows of one day and model are summed up.

use std::collections::{BTreeMap, BTreeSet};

use berth_ground::money::Nanodollars;
use serde_json::Value;

use super::sums::BookedSpend;
use crate::quota::calendar::{Day, DayRange};

const DAY: [&str; 3] = ["date", "day", "usage_date_utc"];
const MODEL: [&str; 2] = ["model", "model_version"];
const COST: [&str; 4] = ["cost", "cost_usd", "amount", "amount_usd"];
/// Names the columns that are read; part of the error message for an export that lacks them.
const COLUMNS: &str = "Three columns are needed: date (or day, usage_date_utc), model (or model_version), and cost (or \
    cost_usd, amount, amount_usd) in dollars.";
/// A difference above this many percent needs an operator's attention.
pub const WARN_ABOVE_PERCENT: f64 = 1.0;

/// What a provider billed, by day and model.
pub type Bill = BTreeMap<(Day, String), Nanodollars>;

/// One day and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillDifference {
    pub day: Day,
    pub model: String,
    pub amounts: BilledAmounts,
}

/// A billed and a booked amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BilledAmounts {
    pub billed_nanodollars: Nanodollars,
    pub booked_nanodollars: Nanodollars,
}

impl BilledAmounts {
    /// Booked less billed. Below zero, the provider charged more than accounts paid.
    #[must_use]
    pub fn margin_nanodollars(&self) -> Nanodollars {
        self.booked_nanodollars.saturating_sub(self.billed_nanodollars)
    }

    /// The margin in percent of the bill; `None` when nothing was billed and something booked.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage is shown with two digits")]
    pub fn percent(&self) -> Option<f64> {
        match (self.billed_nanodollars.0, self.margin_nanodollars().0) {
            (_, 0) => Some(0.0),
            (0, _) => None,
            (billed, margin) => Some(margin as f64 * 100.0 / billed as f64),
        }
    }

    /// Whether the difference needs an operator's attention.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.percent().is_none_or(|percent| percent.abs() > WARN_ABOVE_PERCENT)
    }
}

/// Reads a provider's usage export.
///
/// # Errors
/// A sentence that names the wrong line and the columns needed.
pub fn read_bill(export: &str) -> Result<Bill, String> {
    let export = export.trim_start_matches('\u{feff}').trim();
    let bill = if export.starts_with(['{', '[']) { read_json(export) } else { read_csv(export) }?;
    if bill.is_empty() { Err(format!("There is nothing in it. {COLUMNS}")) } else { Ok(bill) }
}

/// From the first day of `bill` to its last.
#[must_use]
pub fn days(bill: &Bill) -> Option<DayRange> {
    let day = |((day, _), _): (&(Day, String), &Nanodollars)| *day;
    Some(bill.first_key_value().map(day)?..=bill.last_key_value().map(day)?)
}

/// Compares the bill with booked spending, the widest difference first. Only providers with a model in the bill are
/// compared, because the bill of one provider does not cover another's models.
#[must_use]
pub fn compare(bill: &Bill, booked: &[BookedSpend]) -> Vec<BillDifference> {
    let models: BTreeSet<&str> = bill.keys().map(|(_, model)| model.as_str()).collect();
    let providers: BTreeSet<&str> = booked
        .iter()
        .filter(|booked| models.contains(booked.model.as_str()))
        .map(|booked| booked.provider.as_str())
        .collect();
    let mut both: BTreeMap<(Day, &str), BilledAmounts> = BTreeMap::new();
    for ((day, model), billed) in bill {
        both.entry((*day, model)).or_default().billed_nanodollars += *billed;
    }
    for booked in booked.iter().filter(|booked| providers.contains(booked.provider.as_str())) {
        both.entry((booked.day, &booked.model)).or_default().booked_nanodollars += booked.amount_nanodollars;
    }
    let difference =
        |((day, model), amounts): ((Day, &str), _)| BillDifference { day, model: model.to_owned(), amounts };
    let mut differences: Vec<BillDifference> = both.into_iter().map(difference).collect();
    differences.sort_by_key(|one| std::cmp::Reverse(one.amounts.margin_nanodollars().0.unsigned_abs()));
    differences
}

/// All of `differences` together.
#[must_use]
pub fn total(differences: &[BillDifference]) -> BilledAmounts {
    BilledAmounts {
        billed_nanodollars: differences.iter().map(|one| one.amounts.billed_nanodollars).sum(),
        booked_nanodollars: differences.iter().map(|one| one.amounts.booked_nanodollars).sum(),
    }
}

fn read_csv(export: &str) -> Result<Bill, String> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(export.as_bytes());
    let head = csv.headers().map_err(|_| COLUMNS.to_owned())?;
    let column = |names: &[&str]| {
        let is_named = |cell: &str| names.contains(&cell.to_ascii_lowercase().as_str());
        head.iter().position(is_named).ok_or_else(|| COLUMNS.to_owned())
    };
    let (day, model, cost) = (column(&DAY)?, column(&MODEL)?, column(&COST)?);
    let mut bill = Bill::new();
    for row in csv.records() {
        // The reader is given UTF-8, and takes rows of any length.
        let row = row.map_err(|error| wrong(error.position().map_or(0, csv::Position::line)))?;
        let is_blank = row.len() == 1 && row.iter().all(str::is_empty);
        if is_blank {
            continue;
        }
        let billed = BilledRow { day: row.get(day), model: row.get(model), cost: row.get(cost) };
        add(&mut bill, billed).ok_or_else(|| wrong(row.position().map_or(0, csv::Position::line)))?;
    }
    Ok(bill)
}

fn read_json(export: &str) -> Result<Bill, String> {
    let rows = match serde_json::from_str::<Value>(export) {
        Ok(Value::Array(rows)) => rows,
        Ok(Value::Object(mut whole)) => match whole.remove("data") {
            Some(Value::Array(rows)) => rows,
            _ => vec![Value::Object(whole)],
        },
        _ => {
            let line = |(at, line): (usize, &str)| serde_json::from_str(line).map_err(|_| wrong(number(at)));
            export
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(line)
                .collect::<Result<_, _>>()?
        }
    };
    let mut bill = Bill::new();
    for (at, row) in rows.iter().enumerate() {
        let field = |names: &[&str]| names.iter().find_map(|name| row.get(name));
        let cost = field(&COST).map(|cost| cost.as_str().map_or_else(|| cost.to_string(), str::to_owned));
        let (day, model) = (field(&DAY).and_then(Value::as_str), field(&MODEL).and_then(Value::as_str));
        add(&mut bill, BilledRow { day, model, cost: cost.as_deref() }).ok_or_else(|| wrong(number(at)))?;
    }
    Ok(bill)
}

fn wrong(row: u64) -> String {
    format!("Row {row} is not understood. {COLUMNS}")
}

/// Rows are counted from 1.
fn number(index: usize) -> u64 {
    index as u64 + 1
}

/// A row of an export, with those of the needed columns that it has.
struct BilledRow<'a> {
    day: Option<&'a str>,
    model: Option<&'a str>,
    cost: Option<&'a str>,
}

fn add(bill: &mut Bill, row: BilledRow<'_>) -> Option<()> {
    // Only the date: some providers export `2026-11-01T00:00:00Z`.
    let day = row.day?.get(..10)?.parse().ok()?;
    let model = row.model.filter(|model| !model.is_empty())?;
    let sum = bill.entry((day, model.to_owned())).or_default();
    *sum = sum.checked_add(nanodollars(row.cost?)?)?;
    Some(())
}

/// Dollars as nano-dollars: `1.25`, `$1.25`, `-0.5`, `3e-05`; rounded where a provider shows more than nine decimals.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn nanodollars(text: &str) -> Option<Nanodollars> {
    let dollars: f64 = text.trim().replacen('$', "", 1).parse().ok()?;
    let nano = (dollars * 1e9).round();
    // Beyond this no f64 holds every nano-dollar: nine million dollars on one day and model.
    (nano.abs() < 9e15).then_some(Nanodollars(nano as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(day: &str, provider: &str, model: &str, amount: i64) -> BookedSpend {
        let amount_nanodollars = Nanodollars(amount);
        BookedSpend { day: day.parse().unwrap(), provider: provider.into(), model: model.into(), amount_nanodollars }
    }

    #[test]
    fn an_export_is_read_from_csv_json_and_lines_of_json() {
        for export in [
            "date,model,cost\n2026-11-01,sonnet,1.25\n2026-11-01,sonnet,0.75\n2026-11-02,\"haiku\",3e-05\n",
            "\u{feff}usage_date_utc,workspace,model,amount_usd\r\n2026-11-01T00:00:00Z,\"a, \"\"b\"\"\",sonnet,$2\r\n\r\n2026-11-02,x,haiku,0.00003\r\n",
            r#"[{"date":"2026-11-01","model":"sonnet","cost":2},{"day":"2026-11-02","model":"haiku","cost_usd":"0.00003"}]"#,
            r#"{"data":[{"date":"2026-11-01","model":"sonnet","cost":2.0},{"date":"2026-11-02","model":"haiku","cost":3e-5}]}"#,
            "{\"date\":\"2026-11-01\",\"model\":\"sonnet\",\"cost\":2}\n{\"date\":\"2026-11-02\",\"model\":\"haiku\",\"cost\":0.00003}\n",
        ] {
            let bill = read_bill(export).unwrap();
            let rows: Vec<_> = bill.iter().map(|((day, model), cost)| (day.to_string(), &**model, cost.0)).collect();
            let want = [("2026-11-01", "sonnet", 2_000_000_000), ("2026-11-02", "haiku", 30_000)];
            assert_eq!(rows, want.map(|(day, model, cost)| (day.to_owned(), model, cost)), "{export}");
        }
    }

    #[test]
    fn what_is_no_export_is_told_by_its_row_and_by_what_is_needed() {
        for (export, said) in [
            ("", "Three columns are needed"),
            ("date,model\n2026-11-01,sonnet", "Three columns are needed"),
            ("date,model,cost\n", "There is nothing in it."),
            ("date,model,cost\n2026-11-01,sonnet,1\n11/02/2026,sonnet,1", "Row 3 is not understood."),
            ("date,model,cost\n2026-11-01,sonnet,much", "Row 2"),
            ("date,model,cost\n2026-11-01,,1", "Row 2"),
            ("date,model,cost\n2026-11-01,sonnet,1e300", "Row 2"),
            ("date,model,cost\n2026-11-0é,sonnet,1", "Row 2"),
            ("[{\"date\":\"2026-11-01\"}]", "Row 1"),
            ("{\"date\":\n", "Row 1"),
        ] {
            let wrong = read_bill(export).unwrap_err();
            assert!(wrong.starts_with(said) && wrong.contains("usage_date_utc"), "{export}: {wrong}");
        }
    }

    #[test]
    fn a_difference_is_told_by_day_and_model_of_the_providers_that_sent_the_bill() {
        let bill = read_bill("date,model,cost\n2026-11-01,sonnet,2\n2026-11-02,sonnet,1\n2026-11-02,opus,1").unwrap();
        let booked = [
            booked("2026-11-01", "anthropic", "sonnet", 2_010_000_000),
            booked("2026-11-02", "anthropic", "sonnet", 900_000_000),
            booked("2026-11-02", "anthropic", "haiku", 5),
            booked("2026-11-02", "openai", "gpt", 7_000_000_000),
        ];
        let differences = compare(&bill, &booked);
        let said: Vec<_> = differences
            .iter()
            .map(|one| {
                let amounts = one.amounts;
                (one.day.to_string(), &*one.model, amounts.margin_nanodollars().0, amounts.percent(), amounts.is_wide())
            })
            .collect();
        assert_eq!(
            said,
            [
                ("2026-11-02".to_owned(), "opus", -1_000_000_000, Some(-100.0), true),
                ("2026-11-02".to_owned(), "sonnet", -100_000_000, Some(-10.0), true),
                ("2026-11-01".to_owned(), "sonnet", 10_000_000, Some(0.5), false),
                ("2026-11-02".to_owned(), "haiku", 5, None, true),
            ]
        );
        let all = total(&differences);
        assert_eq!((all.billed_nanodollars.0, all.booked_nanodollars.0), (4_000_000_000, 2_910_000_005));
        assert_eq!(days(&bill), Some("2026-11-01".parse().unwrap()..="2026-11-02".parse().unwrap()));
    }
}
