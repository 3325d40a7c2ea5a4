//! Reconciliation with a provider bill: its usage export is compared with the receipts by day and model.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::IntoResponse as _;
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use super::usage::{AllUsagePage, AllUsageQuery, page};
use crate::accounts::Session;
use crate::app::App;
use crate::http::format::column;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::quota::reports::{BillDifference, BilledAmounts, total_difference};
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
    match app.quota.reports.compare_bill(&sent.export).await {
        Ok(differences) => Ok(Page(compared((&session).into(), &differences)).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &AllUsageQuery::default()).await?;
            Ok(problem.with(Page(AllUsagePage { export: sent.export, note: problem.detail.clone(), ..page })))
        }
    }
}

/// Builds the page of a comparison.
#[must_use]
pub fn compared(head: PageHead, differences: &[BillDifference]) -> BillComparisonPage {
    let all = [LabelledAmounts { day: String::new(), model: "", amounts: total_difference(differences) }];
    let shown = &differences[..differences.len().min(MOST_ROWS)];
    let labelled: Vec<_> = shown
        .iter()
        .map(|one| LabelledAmounts { day: one.day.to_string(), model: &one.model, amounts: one.amounts })
        .collect();
    BillComparisonPage {
        head,
        total: rows(&all).remove(0),
        more: differences.len() - shown.len(),
        rows: rows(&labelled),
    }
}

/// What a row is about, and its amounts.
struct LabelledAmounts<'a> {
    day: String,
    model: &'a str,
    amounts: BilledAmounts,
}

fn rows(all: &[LabelledAmounts<'_>]) -> Vec<BillDifferenceRow> {
    let texts =
        |of: fn(&BilledAmounts) -> Nanodollars| column(&all.iter().map(|one| of(&one.amounts)).collect::<Vec<_>>());
    let billed = texts(|amounts| amounts.billed_nanodollars);
    let booked = texts(|amounts| amounts.booked_nanodollars);
    let margins = texts(BilledAmounts::margin_nanodollars);
    let row =
        |(((one, billed), booked), margin): (((&LabelledAmounts<'_>, String), String), String)| BillDifferenceRow {
            day: one.day.clone(),
            model: one.model.to_owned(),
            billed,
            booked,
            margin,
            percent: one.amounts.percent().map_or_else(|| "not billed".into(), |percent| format!("{percent:.2} %")),
            wide: one.amounts.is_wide(),
        };
    all.iter().zip(billed).zip(booked).zip(margins).map(row).collect()
}
