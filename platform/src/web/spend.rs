//! What one's AI calls cost: what is left, and what a month was spent on, by day, model and agent.

use askama::Template;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::charts::Columns;
use super::left::{AlertInWords, LeftInWords, alerts_in_words, left_in_words};
use super::own_keys;
use super::receipts::{self, ReceiptRow};
use crate::accounts::Session;
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::format::{about, column, dollars, grouped, month};
use crate::http::page::Page;
use crate::http::problem::Answer;
use crate::quota::{ModelSpend, Month, Spend, Sum, Sums};

/// How many receipts the page ends with.
const LATEST: u64 = 8;

#[derive(Template)]
#[template(path = "spend/spend.html")]
pub struct SpendPage {
    pub handle: String,
    pub is_admin: bool,
    /// `November 2026`, and as addresses name it.
    pub month: String,
    /// `Nov`
    pub short_month: String,
    pub period: String,
    pub is_present: bool,
    pub alerts: Vec<AlertInWords>,
    pub total: String,
    pub calls: String,
    /// What is left, in the present month alone.
    pub left: Option<LeftInWords>,
    /// Which calls go out under own keys; empty when none do.
    pub own_keys: String,
    /// `None`: nothing was called.
    pub chart: Option<Columns>,
    pub models: Vec<SumRow>,
    pub agents: Vec<SumRow>,
    pub months: Vec<MonthRow>,
    pub receipts: Vec<ReceiptRow>,
}

/// What a model or an agent came to.
pub struct SumRow {
    pub name: String,
    /// `41 calls`, `182 044 tokens in`, `30 911 out`
    pub what: Vec<String>,
    pub share: i64,
    /// Empty in a month that is over.
    pub today: String,
    pub amount: String,
}

/// A month one may look at.
pub struct MonthRow {
    pub period: String,
    pub name: String,
    pub spent: String,
    pub current: bool,
}

#[derive(Deserialize)]
pub struct Asked {
    /// `2026-10`; without one the present month.
    pub month: Option<String>,
}

impl Asked {
    /// The month that is meant.
    ///
    /// # Errors
    /// `NotFound` for what is none.
    pub fn month(&self, app: &App) -> Result<Month> {
        match &self.month {
            Some(text) => Month::parse(text).ok_or(Error::NotFound),
            None => Ok(app.quota.this_month()),
        }
    }
}

/// `GET /spend`
pub async fn show(State(app): State<App>, session: Session, Query(asked): Query<Asked>) -> Answer<Page<SpendPage>> {
    let (account, month) = (session.account, asked.month(&app)?);
    let is_present = month == app.quota.this_month();
    let (left, alerts, sums, today, months, latest) = tokio::try_join!(
        app.quota.left(account),
        app.quota.alerts(account),
        app.quota.spent_in(account, month),
        app.quota.spent_today(account),
        app.quota.months(account),
        app.quota.receipts_before(account, None, LATEST),
    )?;
    let page = SpendPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(&session),
        left: is_present.then(|| left_in_words(&left)),
        own_keys: own_keys::in_words(&app, account),
        alerts: alerts_in_words(&alerts, &left),
        months: months
            .iter()
            .map(|one| MonthRow {
                name: crate::http::format::month(&one.period),
                spent: about(one.spent_nanodollars),
                current: one.period == month.to_string(),
                period: one.period.clone(),
            })
            .collect(),
        receipts: receipts::rows(&latest),
        ..page(month, &sums, is_present.then_some(&today))
    };
    Ok(Page(page))
}

/// The page about what `month` was spent on, without what stands around it.
#[must_use]
pub fn page(month: Month, sums: &Sums, today: Option<&Sums>) -> SpendPage {
    let days: Vec<_> = sums.by_day.iter().map(|day| (day.name.as_str(), day.calls, day.amount_nanodollars)).collect();
    SpendPage {
        handle: String::new(),
        is_admin: false,
        period: month.to_string(),
        is_present: today.is_some(),
        month: crate::http::format::month(&month.to_string()),
        short_month: crate::http::format::month(&month.to_string()).chars().take(3).collect(),
        alerts: Vec::new(),
        total: about(sums.total_nanodollars()),
        calls: calls(sums.by_day.iter().map(|day| day.calls).sum()),
        left: None,
        own_keys: String::new(),
        chart: (!days.is_empty()).then(|| Columns::of(&month.days(), &days)),
        models: rows(
            sums.by_model.iter().map(named_model),
            0,
            today.map(|today| today.by_model.iter().map(named_model)),
        ),
        agents: rows(
            sums.by_agent.iter().map(named_agent),
            sums.other_agents_nanodollars,
            today.map(|today| today.by_agent.iter().map(named_agent)),
        ),
        months: Vec::new(),
        receipts: Vec::new(),
    }
}

/// A sum with the name under which it is shown.
#[must_use]
pub fn named_model(model: &ModelSpend) -> Sum {
    Sum {
        name: model.model.clone(),
        calls: model.calls,
        input_tokens: model.input_tokens,
        output_tokens: model.output_tokens,
        amount_nanodollars: model.amount_nanodollars,
    }
}

fn named_agent(agent: &Sum) -> Sum {
    let name = if agent.name.is_empty() { "no agent named" } else { &agent.name };
    Sum { name: name.into(), ..agent.clone() }
}

/// The rows of a table, and one for `others` that have no row.
#[must_use]
pub fn rows(sums: impl Iterator<Item = Sum>, others: i64, today: Option<impl Iterator<Item = Sum>>) -> Vec<SumRow> {
    let sums: Vec<Sum> = sums.collect();
    let today: Option<Vec<Sum>> = today.map(Iterator::collect);
    let of_today = |name: &str| {
        let found = today.as_ref()?.iter().find(|sum| sum.name == name);
        Some(found.map_or(0, |sum| sum.amount_nanodollars))
    };
    let amounts: Vec<i64> = sums.iter().map(|sum| sum.amount_nanodollars).chain([others]).collect();
    let all: i64 = amounts.iter().sum();
    let said = column(&amounts);
    let todays = column(&sums.iter().map(|sum| of_today(&sum.name).unwrap_or(0)).collect::<Vec<_>>());
    let mut rows: Vec<SumRow> = sums
        .iter()
        .zip(&said)
        .zip(&todays)
        .map(|((sum, amount), today_said)| SumRow {
            what: used(sum),
            share: share(sum.amount_nanodollars, all),
            today: match of_today(&sum.name) {
                None => String::new(),
                Some(0) => "–".into(),
                Some(_) => today_said.clone(),
            },
            amount: amount.clone(),
            name: sum.name.clone(),
        })
        .collect();
    if others != 0 {
        let (name, amount) = ("others".into(), said.last().cloned().unwrap_or_default());
        rows.push(SumRow { name, what: Vec::new(), share: share(others, all), today: String::new(), amount });
    }
    rows
}

/// What calls used, in words.
fn used(sum: &Sum) -> Vec<String> {
    let [input, output] = [sum.input_tokens, sum.output_tokens].map(grouped);
    vec![calls(sum.calls), format!("{input} tokens in"), format!("{output} out")]
}

fn calls(number: i64) -> String {
    if number == 1 { "1 call".into() } else { format!("{} calls", grouped(number)) }
}

/// The month's spending in a few words, for the dashboard.
pub struct SpendInWords {
    /// `November 2026`
    pub month: String,
    pub spent: String,
    pub held: String,
    pub left: String,
    pub allowance: String,
    /// Shares of the allowance in hundredths of a percent, for the bar: of 10 000.
    pub spent_share: i64,
    pub held_share: i64,
    pub holds: bool,
    pub models: Vec<ModelInWords>,
}

/// One row of the table.
pub struct ModelInWords {
    pub model: String,
    pub provider: String,
    pub calls: String,
    pub input_tokens: String,
    pub output_tokens: String,
    pub amount: String,
}

/// Says what was spent.
#[must_use]
pub fn in_words(spend: &Spend) -> SpendInWords {
    let spent_share = share(spend.spent_nanodollars, spend.allowance_nanodollars);
    SpendInWords {
        month: month(&spend.period),
        spent: dollars(spend.spent_nanodollars),
        held: dollars(spend.held_nanodollars),
        left: dollars(spend.left_nanodollars.max(0)),
        allowance: dollars(spend.allowance_nanodollars),
        spent_share,
        held_share: share(spend.held_nanodollars, spend.allowance_nanodollars).min(10_000 - spent_share),
        holds: spend.held_nanodollars > 0,
        models: spend.by_model.iter().map(model).collect(),
    }
}

fn model(spend: &ModelSpend) -> ModelInWords {
    ModelInWords {
        model: spend.model.clone(),
        provider: spend.provider.clone(),
        calls: grouped(spend.calls),
        input_tokens: grouped(spend.input_tokens),
        output_tokens: grouped(spend.output_tokens),
        amount: dollars(spend.amount_nanodollars),
    }
}

/// `part` of `whole` in hundredths of a percent; the smallest amount still shows as a line.
#[must_use]
pub fn share(part: i64, whole: i64) -> i64 {
    if part <= 0 {
        return 0;
    }
    let share = i128::from(part) * 10_000 / i128::from(whole.max(1));
    i64::try_from(share).unwrap_or(10_000).clamp(40, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_holds_and_the_bar_never_overflows() {
        let spend = |spent, held| Spend {
            period: "2026-11".into(),
            allowance_nanodollars: 5_000_000_000,
            credit_nanodollars: 0,
            spent_nanodollars: spent,
            held_nanodollars: held,
            left_nanodollars: 5_000_000_000 - spent - held,
            by_model: Vec::new(),
        };
        let some = in_words(&spend(1_000_000_000, 500_000_000));
        assert_eq!((some.left.as_str(), some.month.as_str()), ("$3.50", "November 2026"));
        assert_eq!((some.spent_share, some.held_share), (2000, 1000));
        let over = in_words(&spend(5_000_000_000, 1_000_000_000));
        assert_eq!((over.left.as_str(), over.spent_share, over.held_share), ("$0.00", 10_000, 0));
        assert_eq!(in_words(&spend(1, 0)).spent_share, 40);
    }

    #[test]
    fn a_table_says_what_its_rows_leave_out() {
        let sum = |name: &str, amount| Sum {
            name: name.into(),
            calls: 1,
            input_tokens: 1000,
            output_tokens: 20,
            amount_nanodollars: amount,
        };
        let today = Some([sum("b", 100_000_000)].into_iter());
        let table = rows([sum("a", 600_000_000), sum("b", 200_000_000)].into_iter(), 200_000_000, today);
        let said: Vec<_> = table.iter().map(|row| (&*row.name, &*row.today, &*row.amount, row.share)).collect();
        assert_eq!(said, [("a", "–", "$0.60", 6000), ("b", "$0.10", "$0.20", 2000), ("others", "", "$0.20", 2000)]);
        assert_eq!(table[0].what, ["1 call", "1\u{2009}000 tokens in", "20 out"]);
    }
}
