//! What one's AI calls cost: what is left, and what a month was spent on, by day, model and agent.

use askama::Template;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::charts::Columns;
use super::errors::Answer;
use super::page::Page;
use super::receipts::{self, ReceiptRow};
use super::words::{about, at_least, column, day as day_in_words, dollars, grouped, month};
use crate::accounts::Session;
use crate::app::App;
use crate::error::{Error, Result};
use crate::quota::{Alert, Left, ModelSpend, Month, RateLeft, Spend, Sum, Sums};

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
    pub alerts: Vec<AlertInWords>,
    pub total: String,
    pub calls: String,
    /// What is left, in the present month alone.
    pub left: Option<LeftInWords>,
    /// `None`: nothing was called.
    pub chart: Option<Columns>,
    pub models: Vec<SumRow>,
    pub agents: Vec<SumRow>,
    pub months: Vec<MonthRow>,
    pub receipts: Vec<ReceiptRow>,
}

/// What is left, as bars.
pub struct LeftInWords {
    pub gauges: Vec<Gauge>,
    /// Empty where there is none.
    pub credit: String,
}

/// One limit.
pub struct Gauge {
    pub name: &'static str,
    /// `$3.77 left of $5.00`
    pub left: String,
    pub note: String,
    /// Whether there is a whole that a bar can show.
    pub limited: bool,
    /// Of the whole, in hundredths of a percent: of 10 000.
    pub spent_share: i64,
    pub held_share: i64,
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
        alerts: alerts_in_words(&alerts, &left),
        months: months
            .iter()
            .map(|one| MonthRow {
                name: super::words::month(&one.period),
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
        month: super::words::month(&month.to_string()),
        short_month: super::words::month(&month.to_string()).chars().take(3).collect(),
        alerts: Vec::new(),
        total: about(sums.total_nanodollars()),
        calls: calls(sums.by_day.iter().map(|day| day.calls).sum()),
        left: None,
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
fn named_model(model: &ModelSpend) -> Sum {
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
fn rows(sums: impl Iterator<Item = Sum>, others: i64, today: Option<impl Iterator<Item = Sum>>) -> Vec<SumRow> {
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

/// Says what is left.
#[must_use]
pub fn left_in_words(left: &Left) -> LeftInWords {
    let today = &left.today;
    let of_month = left.allowance_nanodollars.saturating_add(left.credit_nanodollars);
    let mut gauges = vec![money(
        "This month",
        (left.spent_nanodollars, left.held_nanodollars),
        of_month,
        of_month.saturating_sub(left.spent_nanodollars).saturating_sub(left.held_nanodollars),
        &left.resets_on,
    )];
    if let (Some(of), Some(rest)) = (today.allowance_nanodollars, today.left_nanodollars) {
        gauges.push(money("Today", (today.spent_nanodollars, today.held_nanodollars), of, rest, &today.resets_on));
    } else {
        let spent = format!("{} spent", about(today.spent_nanodollars));
        let note = "no limit but the month's".into();
        gauges.push(Gauge { name: "Today", left: spent, note, limited: false, spent_share: 0, held_share: 0 });
    }
    gauges.extend(left.requests_a_minute.map(|rate| rate_gauge("Calls a minute", rate)));
    gauges.extend(left.tokens_a_minute.map(|rate| rate_gauge("Tokens a minute", rate)));
    let places = left.calls_at_once;
    gauges.push(Gauge {
        name: "Calls at once",
        left: format!("{} left of {}", places.limit.saturating_sub(places.in_flight), places.limit),
        note: if places.in_flight == 0 { "none in flight".into() } else { format!("{} in flight", places.in_flight) },
        limited: true,
        spent_share: 0,
        held_share: share(places.in_flight.into(), places.limit.into()),
    });
    let credit = if left.credit_nanodollars == 0 { String::new() } else { dollars(left.credit_nanodollars) };
    LeftInWords { gauges, credit }
}

fn money(name: &'static str, (spent, held): (i64, i64), of: i64, left: i64, resets_on: &str) -> Gauge {
    let spent_share = share(spent, of);
    let mut note = format!("{} spent", about(spent));
    if held > 0 {
        note.push_str(&format!(", {} held for calls in flight", about(held)));
    }
    note.push_str(&format!("; whole again on {}, midnight UTC", day_in_words(resets_on)));
    Gauge {
        name,
        left: format!("{} left of {}", at_least(left), about(of)),
        note,
        limited: true,
        spent_share,
        held_share: share(held, of).min(10_000 - spent_share),
    }
}

fn rate_gauge(name: &'static str, rate: RateLeft) -> Gauge {
    let used = rate.limit.saturating_sub(rate.remaining);
    Gauge {
        name,
        left: format!("{} left of {}", grouped(rate.remaining.into()), grouped(rate.limit.into())),
        note: if used == 0 { "all of it".into() } else { format!("all of it again in {} s", rate.full_in_seconds) },
        limited: true,
        spent_share: share(used.into(), rate.limit.into()),
        held_share: 0,
    }
}

/// That an allowance is nearly or wholly spent.
pub struct AlertInWords {
    pub sentence: String,
    /// Whether all of it is.
    pub spent: bool,
}

/// Says what somebody was alerted of, as it is by now: nothing where the limit was raised or taken away since.
#[must_use]
pub fn alerts_in_words(alerts: &[Alert], left: &Left) -> Vec<AlertInWords> {
    let today = &left.today;
    let has_credit = left.credit_nanodollars > 0 && left.left_nanodollars > 0;
    let month = Some((left.allowance_nanodollars, left.spent_nanodollars, &left.resets_on, has_credit));
    let day = today.allowance_nanodollars.map(|of| (of, today.spent_nanodollars, &today.resets_on, false));
    [("this month's", &left.period, month), ("today's", &today.day, day)]
        .into_iter()
        .filter(|(_, period, _)| alerts.iter().any(|alert| alert.period == **period))
        .filter_map(|(whose, _, money)| {
            let (allowance, spent, resets_on, has_credit) = money?;
            let is_spent = spent >= allowance;
            if i128::from(spent) * 100 < i128::from(allowance) * 80 {
                return None;
            }
            let (of, said, until) = (about(allowance), about(spent), day_in_words(resets_on));
            let sentence = if is_spent && has_credit {
                format!("All {of} of {whose} AI allowance is spent. Calls go on with your credit.")
            } else if is_spent {
                format!("All {of} of {whose} AI allowance is spent: no call is made before {until}, midnight UTC.")
            } else {
                format!(
                    "More than 80 % of {whose} AI allowance is spent: {said} of {of}. A call that may cost more than is left \
                     is refused until {until}."
                )
            };
            Some(AlertInWords { sentence, spent: is_spent })
        })
        .collect()
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
    use crate::quota::{Places, Today};

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
    fn an_alert_says_what_becomes_of_calls() {
        let alert = |period: &str, percent| Alert {
            account_id: crate::db::AccountId(uuid::Uuid::from_u128(1)),
            period: period.into(),
            percent,
            allowance_nanodollars: 1,
            spent_nanodollars: 1,
            raised_at_ms: 0,
            told_at_ms: None,
        };
        let mut left = Left {
            period: "2026-11".into(),
            allowance_nanodollars: 5_000_000_000,
            credit_nanodollars: 0,
            spent_nanodollars: 4_100_000_000,
            held_nanodollars: 0,
            left_nanodollars: 900_000_000,
            resets_on: "2026-12-01".into(),
            today: Today {
                day: "2026-11-20".into(),
                allowance_nanodollars: None,
                spent_nanodollars: 0,
                held_nanodollars: 0,
                left_nanodollars: None,
                resets_on: "2026-11-21".into(),
            },
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: Places { limit: 5, in_flight: 0 },
        };
        let said = |alerts: &[Alert], left: &Left| {
            alerts_in_words(alerts, left).into_iter().map(|alert| alert.sentence).collect::<Vec<_>>().join(" ")
        };
        let month = [alert("2026-11", 80), alert("2026-11-20", 80)];
        assert!(
            said(&month, &left).starts_with("More than 80 % of this month's AI allowance is spent: $4.10 of $5.00.")
        );
        assert!(!said(&month, &left).contains("today"), "a day without a limit has none to be spent");
        let all = [alert("2026-11", 80), alert("2026-11", 100)];
        (left.left_nanodollars, left.spent_nanodollars) = (0, 5_000_000_000);
        assert_eq!(
            said(&all, &left),
            "All $5.00 of this month's AI allowance is spent: no call is made before 1 Dec, midnight UTC."
        );
        (left.left_nanodollars, left.credit_nanodollars) = (1_000_000_000, 1_000_000_000);
        assert!(said(&all, &left).ends_with("Calls go on with your credit."));
        left.allowance_nanodollars = 20_000_000_000;
        assert_eq!(said(&all, &left), "", "raised since");
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
