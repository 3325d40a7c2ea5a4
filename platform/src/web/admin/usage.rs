//! AI usage of all users, for the operator: sums by day and model, users in pages, and the form for a provider bill.

use askama::Template;
use axum::extract::{Query, State};
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use crate::accounts::{AccountView, Session};
use crate::app::App;
use crate::http::format::{about, column, month};
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::quota::Month;
use crate::quota::reports::{AccountOrder, AccountSpend, MonthTotals, PAGE_SIZE};
use crate::web::page_head::PageHead;
use crate::web::usage::charts::DayChart;
use crate::web::usage::sums::{UsageRow, named_model, rows, share};

#[derive(Template)]
#[template(path = "admin/usage.html")]
pub struct AllUsagePage {
    pub head: PageHead,
    /// `November 2026` and `Nov`; `period` is its name in addresses.
    pub month: String,
    pub short_month: String,
    pub period: String,
    pub is_present: bool,
    pub total: String,
    pub today: String,
    pub held: String,
    /// Users with calls, and those at 80 % of their allowance or beyond.
    pub accounts: i64,
    pub nearly_spent: i64,
    pub chart: Option<DayChart>,
    pub models: Vec<UsageRow>,
    pub rows: Vec<UserUsageRow>,
    pub order: &'static str,
    /// The numbers of the previous and the next page.
    pub before: Option<u64>,
    pub after: Option<u64>,
    /// The form's content, and its validation message.
    pub export: String,
    pub note: String,
}

/// A user in the list.
pub struct UserUsageRow {
    pub handle: String,
    pub today: String,
    pub amount: String,
    /// `of $5.00`, and the amount held.
    pub what: String,
    pub share: i64,
    /// `88 %` from 80 % of the allowance on, or empty.
    pub tag: String,
}

#[derive(Default, Deserialize)]
pub struct AllUsageQuery {
    month: Option<String>,
    #[serde(default)]
    order: UserOrder,
    #[serde(default)]
    page: u64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UserOrder {
    #[default]
    Spent,
    Share,
}

/// `GET /admin/usage?month=2026-11&order=share&page=1`
pub async fn show(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<AllUsageQuery>,
) -> HandlerResult<Page<AllUsagePage>> {
    Ok(Page(page(&app, &session, &asked).await?))
}

/// Builds the page.
///
/// # Errors
/// `NotFound` when the month cannot be parsed.
pub(super) async fn page(app: &App, session: &Session, asked: &AllUsageQuery) -> Result<AllUsagePage> {
    let present = app.quota.reports.this_month();
    let month = match &asked.month {
        Some(text) => text.parse().map_err(|_| Error::NotFound)?,
        None => present,
    };
    let (order, word) = match asked.order {
        UserOrder::Spent => (AccountOrder::Dearest, "spent"),
        UserOrder::Share => (AccountOrder::Nearest, "share"),
    };
    let (all, today, accounts, handles) = tokio::try_join!(
        app.quota.reports.month_totals(month),
        app.quota.reports.spent_today_by_all(),
        app.quota.reports.accounts_in(month, order, asked.page),
        app.accounts.accounts(),
    )?;
    // A full page may be the last one; the page after it is empty then, which costs less than counting.
    let is_full = u64::try_from(accounts.len()).is_ok_and(|count| count == PAGE_SIZE);
    Ok(AllUsagePage {
        is_present: month == present,
        today: about(today),
        held: about(app.quota.reports.held_by_all()),
        rows: account_rows(&accounts, &handles),
        order: word,
        before: asked.page.checked_sub(1),
        after: is_full.then_some(asked.page + 1),
        ..sums(session.into(), month, &all)
    })
}

/// Builds the part of the page that comes from the sums of a month.
#[must_use]
pub fn sums(head: PageHead, month_shown: Month, all: &MonthTotals) -> AllUsagePage {
    let days: Vec<_> = all.by_day.iter().map(Into::into).collect();
    let name = month(&month_shown.to_string());
    AllUsagePage {
        head,
        short_month: name.chars().take(3).collect(),
        month: name,
        period: month_shown.to_string(),
        is_present: false,
        total: about(all.spent_nanodollars),
        today: String::new(),
        held: String::new(),
        accounts: all.accounts,
        nearly_spent: all.nearly_spent,
        chart: (!days.is_empty())
            .then(|| DayChart::of(&month_shown.days().map(String::from).collect::<Vec<_>>(), &days)),
        models: rows(all.by_model.iter().map(named_model), Nanodollars::ZERO, None::<std::iter::Empty<_>>),
        rows: Vec::new(),
        order: "spent",
        before: None,
        after: None,
        export: String::new(),
        note: String::new(),
    }
}

/// Users as rows of a table.
#[must_use]
pub fn account_rows(accounts: &[AccountSpend], known: &[AccountView]) -> Vec<UserUsageRow> {
    let amounts = column(&accounts.iter().map(|one| one.spent_nanodollars).collect::<Vec<_>>());
    let todays = column(&accounts.iter().map(|one| one.today_nanodollars).collect::<Vec<_>>());
    let row = |((one, amount), today): ((&AccountSpend, String), String)| {
        let (spent, of) = (i128::from(one.spent_nanodollars.0), i128::from(one.allowance_nanodollars.0.max(1)));
        // In 128 bits, because an amount times 100 can overflow 64.
        let percent = spent * 100 / of;
        let mut what = format!("of {}", about(one.allowance_nanodollars));
        if one.held_nanodollars > Nanodollars::ZERO {
            what.push_str(&format!(", {} held", about(one.held_nanodollars)));
        }
        let handle = known.iter().find(|view| view.id == one.account).map(|view| view.handle.to_string());
        UserUsageRow {
            handle: handle.unwrap_or_default(),
            today: if one.today_nanodollars == Nanodollars::ZERO { "–".into() } else { today },
            amount,
            what,
            share: share(one.spent_nanodollars.0, one.allowance_nanodollars.0),
            tag: if percent >= 80 { format!("{percent} %") } else { String::new() },
        }
    };
    accounts.iter().zip(amounts).zip(todays).map(row).collect()
}
