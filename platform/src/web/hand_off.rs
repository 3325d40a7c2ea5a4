//! From the app host to an instance's host: the owner gets a one-time code for it, nobody else does.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use super::errors::{Answer, Problem};
use super::words::query_value;
use crate::accounts::Session;
use crate::app::App;
use crate::error::Error;

/// What the edge asks for on behalf of a browser that has no session on an instance's host.
#[derive(Deserialize)]
pub struct HandOff {
    host: String,
    state: String,
    /// base64url of SHA-256 of the verifier that the edge put into the browser's cookie.
    challenge: String,
}

/// `GET /hand-off?host&state&challenge`
pub async fn show(State(app): State<App>, session: Session, Query(asked): Query<HandOff>) -> Answer {
    let code = app.accounts.hand_off(&session, &asked.host, &asked.state, &asked.challenge).await.map_err(in_words)?;
    let hosts = &app.config.hosts;
    let origin = hosts.site(&asked.host).map(|site| hosts.origin(&site)).ok_or(Error::NotFound)?;
    let (code, state) = (code.reveal(), query_value(&asked.state));
    Ok(Redirect::to(&format!("{origin}/.berth/callback?code={code}&state={state}")).into_response())
}

fn in_words(error: Error) -> Problem {
    match error {
        Error::Forbidden(sentence) => {
            Problem::new(StatusCode::FORBIDDEN, "private", "This instance is private", sentence)
        }
        error => error.into(),
    }
}
