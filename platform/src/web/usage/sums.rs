//! Sums of calls by model or agent, as rows of a table with bars. Pure.

use berth_ground::money::Nanodollars;

use crate::http::format::{column, grouped};
use crate::quota::reports::{ModelSpend, NamedSpend};

/// The sum of a model or an agent.
pub struct UsageRow {
    pub name: String,
    /// `41 calls`, `182 044 tokens in`, `30 911 out`
    pub what: Vec<String>,
    pub share: i64,
    /// Empty in a past month.
    pub today: String,
    pub amount: String,
}

/// A model's sum under the name that is shown.
#[must_use]
pub fn named_model(model: &ModelSpend) -> NamedSpend {
    NamedSpend {
        name: model.model.clone(),
        calls: model.calls,
        input_tokens: model.input_tokens,
        output_tokens: model.output_tokens,
        amount_nanodollars: model.amount_nanodollars,
    }
}

pub(super) fn named_agent(agent: &NamedSpend) -> NamedSpend {
    let name = if agent.name.is_empty() { "no agent name" } else { &agent.name };
    NamedSpend { name: name.into(), ..agent.clone() }
}

/// Rows of a table. `others` is the sum of all entries without a row of their own; it gets the last row.
#[must_use]
pub fn rows(
    sums: impl Iterator<Item = NamedSpend>,
    others: Nanodollars,
    today: Option<impl Iterator<Item = NamedSpend>>,
) -> Vec<UsageRow> {
    let sums: Vec<NamedSpend> = sums.collect();
    let today: Option<Vec<NamedSpend>> = today.map(Iterator::collect);
    let of_today = |name: &str| {
        let found = today.as_ref()?.iter().find(|sum| sum.name == name);
        Some(found.map_or(Nanodollars::ZERO, |sum| sum.amount_nanodollars))
    };
    // All amounts of the column are formatted together, so that they have the same number of decimals.
    let amounts: Vec<Nanodollars> = sums.iter().map(|sum| sum.amount_nanodollars).chain([others]).collect();
    let all: Nanodollars = amounts.iter().copied().sum();
    let said = column(&amounts);
    let todays = column(&sums.iter().map(|sum| of_today(&sum.name).unwrap_or_default()).collect::<Vec<_>>());
    let mut rows: Vec<UsageRow> = sums
        .iter()
        .zip(&said)
        .zip(&todays)
        .map(|((sum, amount), today_said)| UsageRow {
            what: used(sum),
            share: share(sum.amount_nanodollars.0, all.0),
            today: match of_today(&sum.name) {
                None => String::new(),
                // A dash, because $0.00 would read as a call that cost nothing.
                Some(Nanodollars::ZERO) => "–".into(),
                Some(_) => today_said.clone(),
            },
            amount: amount.clone(),
            name: sum.name.clone(),
        })
        .collect();
    // Agents name themselves, so their number is unbounded; the store sums up all but the largest twenty.
    if others != Nanodollars::ZERO {
        let (name, amount) = ("others".into(), said.last().cloned().unwrap_or_default());
        rows.push(UsageRow { name, what: Vec::new(), share: share(others.0, all.0), today: String::new(), amount });
    }
    rows
}

/// Calls and tokens, as phrases.
fn used(sum: &NamedSpend) -> Vec<String> {
    let [input, output] = [sum.input_tokens, sum.output_tokens].map(grouped);
    vec![calls(sum.calls), format!("{input} tokens in"), format!("{output} out")]
}

/// The number of calls as a phrase: `1 call`, `41 calls`.
pub(super) fn calls(number: i64) -> String {
    if number == 1 { "1 call".into() } else { format!("{} calls", grouped(number)) }
}

/// `part` of `whole` in hundredths of a percent. A positive part is at least 40, so its bar is visible.
#[must_use]
pub fn share(part: i64, whole: i64) -> i64 {
    if part <= 0 {
        return 0;
    }
    // In 128 bits: amounts go up to 2^63 nano-dollars.
    let share = i128::from(part) * 10_000 / i128::from(whole.max(1));
    i64::try_from(share).unwrap_or(10_000).clamp(40, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_its_rows_leave_out() {
        let sum = |name: &str, amount| NamedSpend {
            name: name.into(),
            calls: 1,
            input_tokens: 1000,
            output_tokens: 20,
            amount_nanodollars: Nanodollars(amount),
        };
        let today = Some([sum("b", 100_000_000)].into_iter());
        let table = rows([sum("a", 600_000_000), sum("b", 200_000_000)].into_iter(), Nanodollars(200_000_000), today);
        let said: Vec<_> = table.iter().map(|row| (&*row.name, &*row.today, &*row.amount, row.share)).collect();
        assert_eq!(said, [("a", "–", "$0.60", 6000), ("b", "$0.10", "$0.20", 2000), ("others", "", "$0.20", 2000)]);
        assert_eq!(table[0].what, ["1 call", "1\u{2009}000 tokens in", "20 out"]);
    }
}
