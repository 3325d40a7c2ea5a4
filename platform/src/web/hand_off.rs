//! The single sign-on hand-off from the app host to an instance's host: an account with access gets a one-time code for
//! it. A guest has to consent first, because the instance learns the guest's handle.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::Error;
use berth_net::hosts::VirtualHost;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::format::query_value;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, get, post};

/// The routes of the hand-off.
pub(super) fn routes() -> Vec<Route> {
    vec![get("/hand-off", Member, show), post("/hand-off", Member, agree)]
}

/// The parameters with which the edge redirects a browser that has no session on an instance's host.
#[derive(Deserialize)]
pub struct HandOffRequest {
    host: String,
    state: String,
    /// base64url of the SHA-256 of the verifier in the browser's cookie on the instance's host, as in PKCE (RFC 7636
    /// 4.2, S256): a stolen code is useless without that cookie.
    challenge: String,
}

/// Asks a guest for consent.
#[derive(Template)]
#[template(path = "hand_off/consent.html")]
pub struct ConsentPage {
    /// The handle of the guest.
    pub handle: String,
    pub owner: String,
    pub host: String,
    pub state: String,
    pub challenge: String,
}

/// Shown after a guest consented. The CSP directive `form-action` also applies to redirects of a form's response, and
/// does not allow the instance's host; a page may lead there.
#[derive(Template)]
#[template(path = "hand_off/continue.html")]
pub struct HandOffContinuePage {
    pub host: String,
    pub next: String,
}

/// `GET /hand-off?host&state&challenge`
pub async fn show(State(app): State<App>, session: Session, Query(asked): Query<HandOffRequest>) -> HandlerResult {
    let way = app.accounts.hand_off_target(&session, &asked.host).map_err(private_instance)?;
    // No consent page for the owner: the instance knows its owner anyway.
    if way.handle != session.handle {
        let HandOffRequest { state, challenge, .. } = asked;
        let (handle, owner) = (session.handle.to_string(), way.handle.to_string());
        return Ok(Page(ConsentPage { handle, owner, host: way.host, state, challenge }).into_response());
    }
    Ok(Redirect::to(&next(&app, &session, &way, &asked).await?).into_response())
}

/// `POST /hand-off` with the same fields: the consent of a guest.
pub async fn agree(
    State(app): State<App>,
    session: Session,
    Form(asked): Form<HandOffRequest>,
) -> HandlerResult<Page<HandOffContinuePage>> {
    let way = app.accounts.hand_off_target(&session, &asked.host).map_err(private_instance)?;
    let next = next(&app, &session, &way, &asked).await?;
    Ok(Page(HandOffContinuePage { host: way.host, next }))
}

/// The callback address on the instance's host, with a code.
async fn next(app: &App, session: &Session, way: &VirtualHost, asked: &HandOffRequest) -> HandlerResult<String> {
    let code =
        app.accounts.hand_off(session, &way.host, &asked.state, &asked.challenge).await.map_err(private_instance)?;
    // The state goes back unchanged. The edge compares it with the cookie it set, which binds the code to that
    // browser (OAuth 2.0, RFC 6749 10.12).
    let (origin, code, state) = (&way.origin, code.reveal(), query_value(&asked.state));
    Ok(format!("{origin}/.berth/callback?code={code}&state={state}"))
}

fn private_instance(error: Error) -> Problem {
    match error {
        // A private instance and one that does not exist look the same, so that handles cannot be enumerated here.
        Error::Forbidden(sentence) => {
            Problem::new(StatusCode::FORBIDDEN, "private", "This instance is private", sentence)
        }
        error => error.into(),
    }
}
