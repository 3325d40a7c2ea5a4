//! The account's own data as JSON.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::accounts::Session;
use crate::app::App;
use crate::http::problem::HandlerResult;
use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, get};

/// The route of the account.
pub(super) fn routes() -> Vec<Route> {
    vec![get("/api/account", Member, account)]
}

/// `GET /api/account`
pub async fn account(State(app): State<App>, session: Session) -> HandlerResult<Json<Value>> {
    let account = app.accounts.account(&session.handle).await?;
    Ok(Json(json!({
        "handle": account.handle,
        "role": account.role,
        "passkeys": account.passkeys,
        "recovery_codes_left": account.recovery_codes_left,
        "created_at": account.created_at,
        "instance_url": app.config.hosts.instance_origin(&account.handle),
    })))
}
