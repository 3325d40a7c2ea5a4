//! What AI calls cost, for programs, in JSON. Money is in nano-dollars, months and days are in UTC.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::receipts::{self, A_PAGE};
use super::spend;
use crate::accounts::Session;
use crate::app::App;
use crate::http::problem::Answer;

/// `GET /api/spend?month=2026-11`, without a month the present one: what is left just now, and what the month was spent on.
pub async fn spend(State(app): State<App>, session: Session, Query(asked): Query<spend::Asked>) -> Answer<Json<Value>> {
    let (account, month) = (session.account, asked.month(&app)?);
    let (left, sums, months, alerts) = tokio::try_join!(
        app.quota.left(account),
        app.quota.spent_in(account, month),
        app.quota.months(account),
        app.quota.alerts(account),
    )?;
    let mut view = json!(left);
    let period = month.to_string();
    if period != left.period {
        // Of a month that is over nothing can be spent.
        let before = months.iter().find(|before| before.period == period);
        view["allowance_nanodollars"] = json!(before.map_or(left.allowance_nanodollars, |m| m.allowance_nanodollars));
        view["spent_nanodollars"] = json!(before.map_or(0, |month| month.spent_nanodollars));
        view["held_nanodollars"] = json!(0);
        view["left_nanodollars"] = json!(0);
        view["period"] = json!(period);
    }
    view["by_model"] = json!(sums.by_model);
    view["by_agent"] = json!(sums.by_agent);
    view["other_agents_nanodollars"] = json!(sums.other_agents_nanodollars);
    view["by_day"] = json!(sums.by_day);
    view["months"] = json!(months);
    view["alerts"] = json!(alerts);
    Ok(Json(view))
}

/// `GET /api/receipts?before=NUMBER`: the newest first. `next_before` asks for those that follow; null at the end.
pub async fn receipts(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<receipts::Asked>,
) -> Answer<Json<Value>> {
    let found = app.quota.receipts_before(session.account, asked.before, A_PAGE).await?;
    Ok(Json(json!({ "next_before": receipts::next(&found), "receipts": found })))
}

/// `GET /api/receipts/{id}`: with what is needed to verify it.
pub async fn receipt(State(app): State<App>, session: Session, Path(id): Path<String>) -> Answer<Json<Value>> {
    let proof = app.quota.receipt(session.account, receipts::receipt_id(&id)?).await?;
    Ok(Json(json!({
        "receipt": proof.receipt,
        "digested": proof.digested,
        "vouched_by": proof.vouched_by,
        "corrections": proof.corrections,
        "wrong": proof.wrong,
        "key": app.quota.receipt_key(),
    })))
}

/// `GET /api/receipts/key`: the public key of receipts' signatures, Ed25519, hexadecimal.
pub async fn key(State(app): State<App>) -> Json<Value> {
    Json(json!({ "algorithm": "Ed25519", "key": app.quota.receipt_key() }))
}
