//! The usage page: the remaining budget, and one month by day, model and agent.

use askama::Template;
use axum::extract::{Query, State};
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use super::budget_view::{BudgetAlertView, BudgetView, budget_alert_views, budget_view};
use super::charts::DayChart;
use super::receipt_view::{self, ReceiptRow};
use super::sums::{UsageRow, calls, named_agent, named_model, rows};
use crate::accounts::Session;
use crate::app::App;
use crate::http::format::about;
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::quota::Month;
use crate::quota::reports::SpendBreakdown;
use crate::web::own_keys;
use crate::web::page_head::PageHead;

/// Number of the latest receipts that are listed.
const LATEST: u64 = 8;

#[derive(Template)]
#[template(path = "usage/usage.html")]
pub struct UsagePage {
    pub head: PageHead,
    /// `November 2026`; `period` is its name in addresses.
    pub month: String,
    /// `Nov`
    pub short_month: String,
    pub period: String,
    pub is_present: bool,
    pub alerts: Vec<BudgetAlertView>,
    pub total: String,
    pub calls: String,
    /// `None` for a past month.
    pub left: Option<BudgetView>,
    /// A sentence about calls that use own provider keys; empty when there are none.
    pub own_keys: String,
    /// `None` when there were no calls.
    pub chart: Option<DayChart>,
    pub models: Vec<UsageRow>,
    pub agents: Vec<UsageRow>,
    pub months: Vec<MonthRow>,
    pub receipts: Vec<ReceiptRow>,
}

/// A month in the navigation.
pub struct MonthRow {
    pub period: String,
    pub name: String,
    pub spent: String,
    pub current: bool,
}

#[derive(Deserialize)]
pub struct MonthQuery {
    /// `2026-10`; by default the present month.
    pub month: Option<String>,
}

impl MonthQuery {
    /// The requested month.
    ///
    /// # Errors
    /// `NotFound` when it cannot be parsed.
    pub fn month(&self, app: &App) -> Result<Month> {
        match &self.month {
            Some(text) => text.parse().map_err(|_| Error::NotFound),
            None => Ok(app.quota.reports.this_month()),
        }
    }
}

/// `GET /usage`
pub async fn show(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<MonthQuery>,
) -> HandlerResult<Page<UsagePage>> {
    let (account, month) = (session.account, asked.month(&app)?);
    // Only the present month has a budget that calls can still use.
    let is_present = month == app.quota.reports.this_month();
    let (left, alerts, sums, today, months, latest) = tokio::try_join!(
        app.quota.reports.budget(account),
        app.quota.reports.alerts(account),
        app.quota.reports.spent_in(account, month),
        app.quota.reports.spent_today(account),
        app.quota.reports.months(account),
        app.quota.ledger.receipts_before(account, None, LATEST),
    )?;
    let page = UsagePage {
        left: is_present.then(|| budget_view(&left)),
        own_keys: own_keys::budget_note(&app, account),
        alerts: budget_alert_views(&alerts, &left),
        months: months
            .iter()
            .map(|one| MonthRow {
                name: crate::http::format::month(&one.period.to_string()),
                spent: about(one.spent_nanodollars),
                current: one.period == month,
                period: one.period.to_string(),
            })
            .collect(),
        receipts: receipt_view::rows(&latest),
        // A day without calls has no row, and a month without any has no chart.
        ..page((&session).into(), month, &sums, is_present.then_some(&today))
    };
    Ok(Page(page))
}

/// Builds the page from the sums of `month`. `today` is absent for a past month.
#[must_use]
pub fn page(head: PageHead, month: Month, sums: &SpendBreakdown, today: Option<&SpendBreakdown>) -> UsagePage {
    let days: Vec<_> = sums.by_day.iter().map(Into::into).collect();
    UsagePage {
        head,
        period: month.to_string(),
        is_present: today.is_some(),
        month: crate::http::format::month(&month.to_string()),
        short_month: crate::http::format::month(&month.to_string()).chars().take(3).collect(),
        alerts: Vec::new(),
        total: about(sums.total_nanodollars()),
        calls: calls(sums.by_day.iter().map(|day| day.calls).sum()),
        left: None,
        own_keys: String::new(),
        chart: (!days.is_empty()).then(|| DayChart::of(&month.days().map(String::from).collect::<Vec<_>>(), &days)),
        models: rows(
            sums.by_model.iter().map(named_model),
            Nanodollars::ZERO,
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
