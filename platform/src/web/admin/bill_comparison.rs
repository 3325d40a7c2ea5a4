//! Reconciliation with a provider bill: its usage export is compared with the receipts by day and model.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::IntoResponse as _;
use serde::Deserialize;

use super::usage::{AllUsagePage, AllUsageQuery, page};
use crate::accounts::Session;
use crate::app::App;
use crate::http::format::column;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::quota::{Drift, drift_of_all};
use crate::web::page_head::PageHead;

#[derive(Template)]
#[template(path = "admin/bill_comparison.html")]
pub struct BillComparisonPage {
    pub head: PageHead,
    pub total: BillDifferenceRow,
    pub rows: Vec<BillDifferenceRow>,
    /// How many rows with a smaller difference are not shown.
    pub more: usize,
}

/// A day and model: the billed and the booked amount.
pub struct BillDifferenceRow {
    pub day: String,
    pub model: String,
    pub billed: String,
    pub booked: String,
    pub margin: String,
    pub percent: String,
    pub wide: bool,
}

/// Rows that are shown; the command line prints all.
const MOST_ROWS: usize = 200;

#[derive(Deserialize)]
pub struct BillForm {
    #[serde(default)]
    export: String,
}

/// `POST /admin/bill-comparison` with a provider's usage export.
pub async fn compare(State(app): State<App>, session: Session, Form(sent): Form<BillForm>) -> HandlerResult {
    match app.quota.compare(&sent.export).await {
        Ok(drifts) => Ok(Page(compared((&session).into(), &drifts)).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &AllUsageQuery::default()).await?;
            Ok(problem.with(Page(AllUsagePage { export: sent.export, note: problem.detail.clone(), ..page })))
        }
    }
}

/// Builds the page of a comparison.
#[must_use]
pub fn compared(head: PageHead, drifts: &[Drift]) -> BillComparisonPage {
    let all = [drift_of_all(drifts)];
    // The module sorts by difference, so the rows that are left out matter least.
    let shown = &drifts[..drifts.len().min(MOST_ROWS)];
    BillComparisonPage {
        head,
        total: drift_rows(&all).remove(0),
        more: drifts.len() - shown.len(),
        rows: drift_rows(shown),
    }
}

fn drift_rows(drifts: &[Drift]) -> Vec<BillDifferenceRow> {
    let said = |of: fn(&Drift) -> i64| column(&drifts.iter().map(of).collect::<Vec<_>>());
    let billed = said(|drift| drift.billed_nanodollars);
    let booked = said(|drift| drift.booked_nanodollars);
    let margins = said(Drift::margin_nanodollars);
    let row = |(((drift, billed), booked), margin): (((&Drift, String), String), String)| BillDifferenceRow {
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
