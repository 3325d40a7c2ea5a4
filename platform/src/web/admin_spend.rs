//! What everybody's AI calls cost, for the operator: sums, accounts in pages, and a provider's bill beside what was booked.

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::response::IntoResponse as _;
use serde::Deserialize;

use super::charts::Columns;
use super::spend::{SumRow, named_model, rows, share};
use crate::accounts::{AccountView, Session};
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::format::{about, column, month};
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::quota::{A_PAGE, AccountSpend, Drift, Everybody, Month, Order, drift_of_all};

#[derive(Template)]
#[template(path = "admin/spend.html")]
pub struct SpendPage {
    pub handle: String,
    pub is_admin: bool,
    /// `November 2026`, `Nov`, and as addresses name it.
    pub month: String,
    pub short_month: String,
    pub period: String,
    pub is_present: bool,
    pub total: String,
    pub today: String,
    pub held: String,
    /// Accounts with calls, and how many of them spent four fifths of their allowance.
    pub accounts: i64,
    pub nearly_spent: i64,
    pub chart: Option<Columns>,
    pub models: Vec<SumRow>,
    pub rows: Vec<AccountRow>,
    pub order: &'static str,
    /// The pages before and after this one.
    pub before: Option<u64>,
    pub after: Option<u64>,
    /// What was pasted, and what is wrong with it.
    pub export: String,
    pub note: String,
}

/// One account.
pub struct AccountRow {
    pub handle: String,
    pub today: String,
    pub amount: String,
    /// `$1.20 of $5.00`, and what is held.
    pub what: String,
    pub share: i64,
    /// `88 %` where it is four fifths of the allowance or more, or empty.
    pub tag: String,
}

#[derive(Template)]
#[template(path = "admin/compare.html")]
pub struct ComparePage {
    pub handle: String,
    pub is_admin: bool,
    pub total: DriftRow,
    pub rows: Vec<DriftRow>,
    /// How many more there are that differ less.
    pub more: usize,
}

/// A bill beside the books.
pub struct DriftRow {
    pub day: String,
    pub model: String,
    pub billed: String,
    pub booked: String,
    pub margin: String,
    pub percent: String,
    pub wide: bool,
}

/// Rows of a comparison that are shown; the command line prints all.
const MOST_ROWS: usize = 200;

#[derive(Default, Deserialize)]
pub struct Asked {
    month: Option<String>,
    #[serde(default)]
    order: ByWhat,
    #[serde(default)]
    page: u64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ByWhat {
    #[default]
    Spent,
    Share,
}

/// `GET /admin/spend?month=2026-11&order=share&page=1`
pub async fn show(State(app): State<App>, session: Session, Query(asked): Query<Asked>) -> Answer<Page<SpendPage>> {
    Ok(Page(page(&app, &session, &asked).await?))
}

async fn page(app: &App, session: &Session, asked: &Asked) -> Result<SpendPage> {
    let present = app.quota.this_month();
    let month = match &asked.month {
        Some(text) => Month::parse(text).ok_or(Error::NotFound)?,
        None => present,
    };
    let (order, word) = match asked.order {
        ByWhat::Spent => (Order::Dearest, "spent"),
        ByWhat::Share => (Order::Nearest, "share"),
    };
    let (all, today, accounts, handles) = tokio::try_join!(
        app.quota.everybody(month),
        app.quota.spent_today_by_all(),
        app.quota.accounts_in(month, order, asked.page),
        app.accounts.accounts(),
    )?;
    let is_full = u64::try_from(accounts.len()).is_ok_and(|count| count == A_PAGE);
    Ok(SpendPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        is_present: month == present,
        today: about(today),
        held: about(app.quota.held_by_all()),
        rows: account_rows(&accounts, &handles),
        order: word,
        before: asked.page.checked_sub(1),
        after: is_full.then_some(asked.page + 1),
        ..sums(month, &all)
    })
}

/// The page about what everybody did in `month`, without what stands around it.
#[must_use]
pub fn sums(month_shown: Month, all: &Everybody) -> SpendPage {
    let days: Vec<_> = all.by_day.iter().map(|day| (day.name.as_str(), day.calls, day.amount_nanodollars)).collect();
    let name = month(&month_shown.to_string());
    SpendPage {
        handle: String::new(),
        is_admin: true,
        short_month: name.chars().take(3).collect(),
        month: name,
        period: month_shown.to_string(),
        is_present: false,
        total: about(all.spent_nanodollars),
        today: String::new(),
        held: String::new(),
        accounts: all.accounts,
        nearly_spent: all.nearly_spent,
        chart: (!days.is_empty()).then(|| Columns::of(&month_shown.days(), &days)),
        models: rows(all.by_model.iter().map(named_model), 0, None::<std::iter::Empty<_>>),
        rows: Vec::new(),
        order: "spent",
        before: None,
        after: None,
        export: String::new(),
        note: String::new(),
    }
}

/// Accounts as rows of a table.
#[must_use]
pub fn account_rows(accounts: &[AccountSpend], known: &[AccountView]) -> Vec<AccountRow> {
    let amounts = column(&accounts.iter().map(|one| one.spent_nanodollars).collect::<Vec<_>>());
    let todays = column(&accounts.iter().map(|one| one.today_nanodollars).collect::<Vec<_>>());
    let row = |((one, amount), today): ((&AccountSpend, String), String)| {
        let (spent, of) = (i128::from(one.spent_nanodollars), i128::from(one.allowance_nanodollars.max(1)));
        let percent = spent * 100 / of;
        let mut what = format!("of {}", about(one.allowance_nanodollars));
        if one.held_nanodollars > 0 {
            what.push_str(&format!(", {} held just now", about(one.held_nanodollars)));
        }
        let handle = known.iter().find(|view| view.id == one.account).map(|view| view.handle.to_string());
        AccountRow {
            handle: handle.unwrap_or_default(),
            today: if one.today_nanodollars == 0 { "–".into() } else { today },
            amount,
            what,
            share: share(one.spent_nanodollars, one.allowance_nanodollars),
            tag: if percent >= 80 { format!("{percent} %") } else { String::new() },
        }
    };
    accounts.iter().zip(amounts).zip(todays).map(row).collect()
}

#[derive(Deserialize)]
pub struct Sent {
    #[serde(default)]
    export: String,
}

/// `POST /admin/compare`: a provider's usage export beside the books.
pub async fn compare(State(app): State<App>, session: Session, Form(sent): Form<Sent>) -> Answer {
    match app.quota.compare(&sent.export).await {
        Ok(drifts) => {
            let handle = session.handle.to_string();
            Ok(Page(ComparePage { handle, is_admin: super::admin::is_admin(&session), ..compared(&drifts) })
                .into_response())
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &Asked::default()).await?;
            Ok(problem.with(Page(SpendPage { export: sent.export, note: problem.detail.clone(), ..page })))
        }
    }
}

/// The page of a comparison, without what stands around it.
#[must_use]
pub fn compared(drifts: &[Drift]) -> ComparePage {
    let all = [drift_of_all(drifts)];
    let shown = &drifts[..drifts.len().min(MOST_ROWS)];
    ComparePage {
        handle: String::new(),
        is_admin: true,
        total: drift_rows(&all).remove(0),
        more: drifts.len() - shown.len(),
        rows: drift_rows(shown),
    }
}

fn drift_rows(drifts: &[Drift]) -> Vec<DriftRow> {
    let said = |of: fn(&Drift) -> i64| column(&drifts.iter().map(of).collect::<Vec<_>>());
    let billed = said(|drift| drift.billed_nanodollars);
    let booked = said(|drift| drift.booked_nanodollars);
    let margins = said(Drift::margin_nanodollars);
    let row = |(((drift, billed), booked), margin): (((&Drift, String), String), String)| DriftRow {
        day: drift.day.clone(),
        model: drift.model.clone(),
        billed,
        booked,
        margin,
        percent: drift.percent().map_or_else(|| "not billed".into(), |percent| format!("{percent:.2} %")),
        wide: drift.is_wide(),
    };
    drifts.iter().zip(billed).zip(booked).zip(margins).map(row).collect()
}
