//! The account's passkeys (list, add, remove), and new recovery codes.

use askama::Template;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
use berth_ground::error::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookies;
use super::extractors::CeremonyToken;
use crate::accounts::{PasskeyView, Session};
use crate::app::App;
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::web::access::AccessLevel::Member;
use crate::web::page_head::PageHead;
use crate::web::route::{Route, get, post};

/// The routes of passkeys and recovery codes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/passkeys", Member, list),
        post("/passkeys/challenge", Member, challenge),
        post("/passkeys", Member, add),
        post("/passkeys/{id}/remove", Member, remove),
        post("/recovery-codes", Member, new_recovery_codes),
    ]
}

#[derive(Template)]
#[template(path = "passkeys/passkeys.html")]
pub struct PasskeysPage {
    pub head: PageHead,
    /// Whether account recovery redirected here; the old passkey is lost then.
    pub recovered: bool,
    pub passkeys: Vec<PasskeyRow>,
}

/// The new recovery codes. Only their hashes are stored, so this response is the only time they can be shown.
#[derive(Template)]
#[template(path = "passkeys/recovery_codes.html")]
pub struct NewRecoveryCodesPage {
    pub head: PageHead,
    pub codes: Vec<String>,
}

/// A passkey in the list.
pub struct PasskeyRow {
    pub id: String,
    pub name: String,
    pub created: Moment,
    pub last_used: Moment,
}

impl From<&PasskeyView> for PasskeyRow {
    fn from(passkey: &PasskeyView) -> Self {
        Self {
            id: passkey.id.to_string(),
            name: passkey.name.clone(),
            created: Moment(passkey.created_at),
            last_used: Moment(passkey.last_used_at),
        }
    }
}

#[derive(Deserialize)]
pub struct PasskeysQuery {
    #[serde(default)]
    recovered: String,
}

/// `GET /passkeys?recovered=`
pub async fn list(
    State(app): State<App>,
    session: Session,
    Query(arrival): Query<PasskeysQuery>,
) -> HandlerResult<Page<PasskeysPage>> {
    let passkeys = app.accounts.passkeys(&session).await?;
    Ok(Page(PasskeysPage {
        head: (&session).into(),
        recovered: arrival.recovered == "yes",
        passkeys: passkeys.iter().map(Into::into).collect(),
    }))
}

/// `POST /passkeys/challenge`
pub async fn challenge(State(app): State<App>, session: Session) -> HandlerResult {
    let (token, options) = app.accounts.passkey_challenge(&session).await?;
    Ok((AppendHeaders([cookies::ceremony(&token)]), Json(options)).into_response())
}

/// `POST /passkeys` with the browser's response to the challenge.
pub async fn add(
    State(app): State<App>,
    session: Session,
    CeremonyToken(token): CeremonyToken,
    Json(answer): Json<Value>,
) -> HandlerResult {
    app.accounts.passkey_add(&session, &token, answer).await?;
    // The challenge is single-use, so its cookie is removed.
    Ok((AppendHeaders([cookies::ceremony_over()]), Json(json!({ "next": "/passkeys" }))).into_response())
}

/// `POST /passkeys/{id}/remove`
pub async fn remove(State(app): State<App>, session: Session, Path(id): Path<String>) -> HandlerResult<Redirect> {
    let id = id.parse().map_err(|_| Error::NotFound)?;
    app.accounts.passkey_remove(&session, id).await?;
    Ok(Redirect::to("/passkeys"))
}

/// `POST /recovery-codes` replaces the account's recovery codes.
pub async fn new_recovery_codes(State(app): State<App>, session: Session) -> HandlerResult<Page<NewRecoveryCodesPage>> {
    let codes = app.accounts.recovery_codes_renew(&session).await?;
    Ok(Page(NewRecoveryCodesPage { head: (&session).into(), codes }))
}
