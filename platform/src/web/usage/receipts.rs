//! The pages of receipts: the list, and one receipt with its place in the hash chain.

use askama::Template;
use axum::extract::{Path, Query, State};
use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use super::receipt_view::{
    CorrectionRow, PAGE_SIZE, ReceiptField, ReceiptRow, chain, correction, fields, next, rows, story,
};
use crate::accounts::Session;
use crate::app::App;
use crate::db::HoldId;
use crate::http::format::{Moment, dollars};
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::quota::ledger::ReceiptProof;
use crate::web::page_head::PageHead;

#[derive(Template)]
#[template(path = "usage/receipts.html")]
pub struct ReceiptsPage {
    pub head: PageHead,
    pub receipts: Vec<ReceiptRow>,
    /// Whether the list starts with the newest.
    pub newest: bool,
    /// The cursor of the next page, if there is one.
    pub before: Option<i64>,
    /// The present month in addresses, for the export.
    pub period: String,
}

#[derive(Template)]
#[template(path = "usage/receipt.html")]
pub struct ReceiptPage {
    pub head: PageHead,
    pub id: String,
    pub amount: String,
    /// The phrase before the model: `for a call of`, or that of a correction.
    pub what: &'static str,
    pub model: String,
    pub at: Moment,
    /// The explanation of the amount.
    pub story: String,
    /// Later corrections of this receipt.
    pub corrections: Vec<CorrectionRow>,
    /// The amount including all corrections.
    pub total: String,
    /// Why the verification of the hash chain failed, or empty.
    pub wrong: String,
    /// Every field as a name and its text.
    pub fields: Vec<ReceiptField>,
    pub chain: Vec<ReceiptField>,
    pub key: String,
}

#[derive(Deserialize)]
pub struct ReceiptsQuery {
    /// A number in the chain: receipts before it are listed.
    pub before: Option<i64>,
}

/// `GET /usage/receipts`
pub async fn list(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<ReceiptsQuery>,
) -> HandlerResult<Page<ReceiptsPage>> {
    let receipts = app.quota.ledger.receipts_before(session.account, asked.before, PAGE_SIZE).await?;
    Ok(Page(ReceiptsPage {
        head: (&session).into(),
        newest: asked.before.is_none(),
        before: next(&receipts),
        period: app.quota.reports.this_month().to_string(),
        receipts: rows(&receipts),
    }))
}

/// `GET /usage/receipts/{id}`
pub async fn show(
    State(app): State<App>,
    session: Session,
    Path(id): Path<String>,
) -> HandlerResult<Page<ReceiptPage>> {
    // Found by account and id together: a receipt of another account does not exist here.
    let proof = app.quota.ledger.receipt(session.account, receipt_id(&id)?).await?;
    Ok(Page(page((&session).into(), &proof, app.quota.ledger.receipt_key())))
}

/// Parses a receipt's id from a path.
///
/// # Errors
/// `NotFound` when the text is not an id.
pub fn receipt_id(id: &str) -> Result<HoldId> {
    id.parse().map_err(|_| Error::NotFound)
}

/// Builds the page of one receipt. `key` is the public key of the signatures.
#[must_use]
pub fn page(head: PageHead, proof: &ReceiptProof, key: String) -> ReceiptPage {
    let receipt = &proof.receipt;
    ReceiptPage {
        head,
        id: receipt.id.to_string(),
        amount: dollars(receipt.amount_nanodollars),
        what: match (receipt.corrects, receipt.amount_nanodollars) {
            (None, _) => "for a call of",
            (Some(_), Nanodollars(..0)) => "given back of a call of",
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
