//! From the app host to an instance's host: whoever may enter gets a one-time code for it, nobody else does. A guest agrees
//! first, because the instance learns who they are.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::error::Error;
use crate::hosts::Entrance;
use crate::http::format::query_value;
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};

/// What the edge asks for on behalf of a browser that has no session on an instance's host.
#[derive(Deserialize)]
pub struct HandOff {
    host: String,
    state: String,
    /// base64url of SHA-256 of the verifier that the edge put into the browser's cookie.
    challenge: String,
}

/// Asks a guest.
#[derive(Template)]
#[template(path = "hand_off/agree.html")]
pub struct AgreePage {
    /// The guest's.
    pub handle: String,
    pub owner: String,
    pub host: String,
    pub state: String,
    pub challenge: String,
}

/// After a guest agreed. A form's answer may not redirect to another host (`form-action`), a page may.
#[derive(Template)]
#[template(path = "hand_off/go_on.html")]
pub struct GoOnPage {
    pub host: String,
    pub next: String,
}

/// `GET /hand-off?host&state&challenge`
pub async fn show(State(app): State<App>, session: Session, Query(asked): Query<HandOff>) -> Answer {
    let way = app.accounts.hand_off_target(&session, &asked.host).map_err(in_words)?;
    if way.handle != session.handle {
        let HandOff { state, challenge, .. } = asked;
        let (handle, owner) = (session.handle.to_string(), way.handle.to_string());
        return Ok(Page(AgreePage { handle, owner, host: way.host, state, challenge }).into_response());
    }
    Ok(Redirect::to(&next(&app, &session, &way, &asked).await?).into_response())
}

/// `POST /hand-off` with the same: a guest agrees.
pub async fn agree(State(app): State<App>, session: Session, Form(asked): Form<HandOff>) -> Answer<Page<GoOnPage>> {
    let way = app.accounts.hand_off_target(&session, &asked.host).map_err(in_words)?;
    let next = next(&app, &session, &way, &asked).await?;
    Ok(Page(GoOnPage { host: way.host, next }))
}

/// The way back to the instance's host, with a code.
async fn next(app: &App, session: &Session, way: &Entrance, asked: &HandOff) -> Answer<String> {
    let code = app.accounts.hand_off(session, &way.host, &asked.state, &asked.challenge).await.map_err(in_words)?;
    let (origin, code, state) = (&way.origin, code.reveal(), query_value(&asked.state));
    Ok(format!("{origin}/.berth/callback?code={code}&state={state}"))
}

fn in_words(error: Error) -> Problem {
    match error {
        Error::Forbidden(sentence) => {
            Problem::new(StatusCode::FORBIDDEN, "private", "This instance is private", sentence)
        }
        error => error.into(),
    }
}
