//! Usage and receipts as JSON. Amounts are in nano-dollars; months and days are in UTC.

use axum::Json;
use axum::extract::{Path, Query, State};
use berth_ground::money::Nanodollars;
use serde_json::{Value, json};

use super::page;
use super::receipt_view::{PAGE_SIZE, next};
use super::receipts;
use crate::accounts::Session;
use crate::app::App;
use crate::http::list::ListView;
use crate::http::problem::HandlerResult;
use crate::quota::Receipt;

/// `GET /api/usage?month=2026-11`: the budget as it is now, and the usage of a month, by default the present one.
pub async fn usage(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<page::MonthQuery>,
) -> HandlerResult<Json<Value>> {
    let (account, month) = (session.account, asked.month(&app)?);
    let (left, sums, months, alerts) = tokio::try_join!(
        app.quota.reports.budget(account),
        app.quota.reports.spent_in(account, month),
        app.quota.reports.months(account),
        app.quota.reports.alerts(account),
    )?;
    // The budget's fields come first and unchanged; the sums of the month are added to them.
    let mut view = json!(left);
    if month != left.period {
        // The budget of a past month is closed: nothing is held or left of it.
        let before = months.iter().find(|before| before.period == month);
        view["allowance_nanodollars"] = json!(before.map_or(left.allowance_nanodollars, |m| m.allowance_nanodollars));
        view["spent_nanodollars"] = json!(before.map_or(Nanodollars::ZERO, |month| month.spent_nanodollars));
        view["held_nanodollars"] = json!(0);
        view["left_nanodollars"] = json!(0);
        view["period"] = json!(month);
    }
    view["by_model"] = json!(sums.by_model);
    view["by_agent"] = json!(sums.by_agent);
    view["other_agents_nanodollars"] = json!(sums.other_agents_nanodollars);
    view["by_day"] = json!(sums.by_day);
    view["months"] = json!(months);
    view["alerts"] = json!(alerts);
    Ok(Json(view))
}

/// `GET /api/receipts?before=NUMBER`: the newest first.
pub async fn receipts(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<receipts::ReceiptsQuery>,
) -> HandlerResult<Json<ListView<Receipt>>> {
    let found = app.quota.ledger.receipts_before(session.account, asked.before, PAGE_SIZE).await?;
    let next = next(&found).map(|before| format!("/api/receipts?before={before}"));
    Ok(Json(ListView::page(found, next)))
}

/// `GET /api/receipts/{id}`: a receipt with the data needed to verify it.
pub async fn receipt(State(app): State<App>, session: Session, Path(id): Path<String>) -> HandlerResult<Json<Value>> {
    let proof = app.quota.ledger.receipt(session.account, receipts::receipt_id(&id)?).await?;
    Ok(Json(json!({
        "receipt": proof.receipt,
        "digested": proof.digested,
        "vouched_by": proof.vouched_by,
        "corrections": proof.corrections,
        "wrong": proof.wrong,
        "key": app.quota.ledger.receipt_key(),
    })))
}

/// `GET /api/receipts/key`: the public key of the receipts' Ed25519 signatures, in hexadecimal.
pub async fn key(State(app): State<App>) -> Json<Value> {
    Json(json!({ "algorithm": "Ed25519", "key": app.quota.ledger.receipt_key() }))
}
