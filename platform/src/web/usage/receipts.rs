//! Receipts of one's AI calls: the list, one whole, and a month to take away.

use askama::Template;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::receipt_view::{CorrectionRow, PAGE_SIZE, ReceiptRow, chain, correction, fields, next, rows, story};
use crate::accounts::Session;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::HoldId;
use crate::error::{Error, Result};
use crate::http::format::{Moment, dollars};
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::quota::Proof;
use crate::web::page_head::PageHead;

#[derive(Template)]
#[template(path = "usage/receipts.html")]
pub struct ReceiptsPage {
    pub head: PageHead,
    pub receipts: Vec<ReceiptRow>,
    /// Whether the newest are among them.
    pub newest: bool,
    /// Where the older ones begin, if there are any.
    pub before: Option<i64>,
    /// As addresses name the month that is exported from here.
    pub period: String,
}

#[derive(Template)]
#[template(path = "usage/receipt.html")]
pub struct ReceiptPage {
    pub head: PageHead,
    pub id: String,
    pub amount: String,
    /// `for a call of`, or what a correction is.
    pub what: &'static str,
    pub model: String,
    pub at: Moment,
    /// How the amount came about.
    pub story: String,
    /// What was changed about it since.
    pub corrections: Vec<CorrectionRow>,
    /// What the call cost with all of them.
    pub total: String,
    /// What is wrong with it or with those that vouch for it; empty when nothing is.
    pub wrong: String,
    /// Every field: its name, and what it says.
    pub fields: Vec<(&'static str, String)>,
    pub chain: Vec<(&'static str, String)>,
    pub key: String,
}

#[derive(Deserialize)]
pub struct ReceiptsQuery {
    /// A number in the chain.
    pub before: Option<i64>,
}

/// `GET /usage/receipts`
pub async fn list(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<ReceiptsQuery>,
) -> HandlerResult<Page<ReceiptsPage>> {
    let receipts = app.quota.receipts_before(session.account, asked.before, PAGE_SIZE).await?;
    Ok(Page(ReceiptsPage {
        head: (&session).into(),
        newest: asked.before.is_none(),
        before: next(&receipts),
        period: app.quota.this_month().to_string(),
        receipts: rows(&receipts),
    }))
}

/// `GET /usage/receipts/{id}`
pub async fn show(
    State(app): State<App>,
    session: Session,
    Path(id): Path<String>,
) -> HandlerResult<Page<ReceiptPage>> {
    let proof = app.quota.receipt(session.account, receipt_id(&id)?).await?;
    Ok(Page(page((&session).into(), &proof, app.quota.receipt_key())))
}

/// A receipt's id as it stands in an address.
///
/// # Errors
/// `NotFound` for what is none.
pub fn receipt_id(id: &str) -> Result<HoldId> {
    id.parse().map_err(|_| Error::NotFound)
}

/// The page of one receipt.
#[must_use]
pub fn page(head: PageHead, proof: &Proof, key: String) -> ReceiptPage {
    let receipt = &proof.receipt;
    ReceiptPage {
        head,
        id: receipt.id.to_string(),
        amount: dollars(receipt.amount_nanodollars),
        what: match (receipt.corrects, receipt.amount_nanodollars) {
            (None, _) => "for a call of",
            (Some(_), ..0) => "given back of a call of",
            (Some(_), _) => "more for a call of",
        },
        model: receipt.model.clone(),
        at: Moment(Timestamp(receipt.settled_at_ms)),
        story: story(receipt),
        corrections: proof.corrections.iter().map(correction).collect(),
        total: dollars(proof.total_nanodollars()),
        wrong: proof.wrong.clone().unwrap_or_default(),
        fields: fields(receipt),
        chain: chain(proof),
        key,
    }
}
