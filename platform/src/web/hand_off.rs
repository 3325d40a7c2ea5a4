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
use crate::hosts::Site;

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
    let hosts = &app.config.hosts;
    let Some(Site::Instance(handle)) = hosts.site(&asked.host) else {
        return Err(Error::NotFound.into());
    };
    if handle != session.handle {
        return Err(private(&hosts.instance_host(&handle), &session));
    }
    let host = hosts.instance_host(&handle);
    let code = app.accounts.hand_off(&session, &host, &asked.state, &asked.challenge).await?;
    let (origin, code, state) = (hosts.instance_origin(&handle), code.reveal(), query_value(&asked.state));
    Ok(Redirect::to(&format!("{origin}/.berth/callback?code={code}&state={state}")).into_response())
}

/// The same for an instance that exists and one that does not.
fn private(host: &str, session: &Session) -> Problem {
    let detail =
        format!("{host} opens only for its owner, and you are logged in as {}. Nothing was woken.", session.handle);
    Problem::new(StatusCode::FORBIDDEN, "private", "This instance is private", detail)
}
