//! One's own passkeys: see them, add one, remove one; and new recovery codes.

use askama::Template;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookies;
use super::extractors::Pending;
use crate::accounts::{PasskeyView, Session};
use crate::app::App;
use crate::error::Error;
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::Answer;

#[derive(Template)]
#[template(path = "dashboard/passkeys.html")]
pub struct PasskeysPage {
    pub handle: String,
    pub is_admin: bool,
    /// Whether a recovery code brought the person here, whose old passkey is lost.
    pub recovered: bool,
    pub passkeys: Vec<PasskeyRow>,
}

/// New recovery codes, this once.
#[derive(Template)]
#[template(path = "dashboard/recovery_codes.html")]
pub struct NewRecoveryCodesPage {
    pub handle: String,
    pub is_admin: bool,
    pub codes: Vec<String>,
}

/// One passkey.
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
pub struct Arrival {
    #[serde(default)]
    recovered: String,
}

/// `GET /passkeys?recovered=`
pub async fn list(
    State(app): State<App>,
    session: Session,
    Query(arrival): Query<Arrival>,
) -> Answer<Page<PasskeysPage>> {
    let passkeys = app.accounts.passkeys(&session).await?;
    Ok(Page(PasskeysPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(&session),
        recovered: arrival.recovered == "yes",
        passkeys: passkeys.iter().map(Into::into).collect(),
    }))
}

/// `POST /passkeys/challenge`
pub async fn challenge(State(app): State<App>, session: Session) -> Answer {
    let (token, options) = app.accounts.passkey_challenge(&session).await?;
    Ok((AppendHeaders([cookies::ceremony(&token)]), Json(options)).into_response())
}

/// `POST /passkeys`: the browser's answer.
pub async fn add(
    State(app): State<App>,
    session: Session,
    Pending(token): Pending,
    Json(answer): Json<Value>,
) -> Answer {
    app.accounts.passkey_add(&session, &token, answer).await?;
    Ok((AppendHeaders([cookies::ceremony_over()]), Json(json!({ "next": "/passkeys" }))).into_response())
}

/// `POST /passkeys/{id}/remove`
pub async fn remove(State(app): State<App>, session: Session, Path(id): Path<String>) -> Answer<Redirect> {
    let id = id.parse().map_err(|_| Error::NotFound)?;
    app.accounts.passkey_remove(&session, id).await?;
    Ok(Redirect::to("/passkeys"))
}

/// `POST /recovery-codes`: new ones in place of those before.
pub async fn new_recovery_codes(State(app): State<App>, session: Session) -> Answer<Page<NewRecoveryCodesPage>> {
    let codes = app.accounts.recovery_codes_renew(&session).await?;
    let is_admin = super::admin::is_admin(&session);
    Ok(Page(NewRecoveryCodesPage { handle: session.handle.to_string(), is_admin, codes }))
}
