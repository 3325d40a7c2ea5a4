//! The log-in page, its passkey ceremony, the one-time code, and logging out.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
use axum::{Form, Json};
use berth_net::hosts::HostKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::{Client, LogInOutcome, NewSession, Session};
use crate::app::App;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Cause;
use crate::web::cookies;
use crate::web::extractors::{CeremonyToken, DeviceToken};
use crate::web::return_path::ReturnPath;

#[derive(Template)]
#[template(path = "log_in/log_in.html")]
pub struct LogInPage {
    /// The return path, or empty.
    pub next: String,
    /// The host of the instance that the browser was on the way to, or empty.
    pub instance: String,
    /// Whether the page may offer passkeys in the field's autofill (conditional UI). That requests a challenge, whose
    /// cookie would replace that of a sign-up in progress.
    pub conditional: bool,
}

#[derive(Template)]
#[template(path = "log_in/code.html")]
pub struct LogInCodePage {
    pub next: String,
    pub note: String,
}

/// Shown after the one-time code when there is a return path to an instance. The CSP directive `form-action` also
/// applies to redirects of a form's response, and does not allow the instance's host; a page may lead there.
#[derive(Template)]
#[template(path = "log_in/continue.html")]
pub struct LogInContinuePage {
    pub next: String,
}

#[derive(Deserialize)]
pub struct ReturnPathQuery {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct LogInCodeForm {
    #[serde(default)]
    code: String,
    #[serde(default)]
    next: String,
}

/// `GET /log-in?next=`
pub async fn show(
    State(app): State<App>,
    pending: Option<CeremonyToken>,
    Query(way): Query<ReturnPathQuery>,
) -> Page<LogInPage> {
    let next = ReturnPath::parse(&way.next);
    // The pending cookie alone does not tell a sign-up from a log-in, and may be stale; `accounts` knows the ceremony.
    let signing_up = match pending {
        Some(CeremonyToken(token)) => app.accounts.sign_up(&token).await.is_ok(),
        None => false,
    };
    Page(LogInPage {
        instance: next.as_ref().map(|next| next.host().to_owned()).unwrap_or_default(),
        next: next.map(|next| next.0).unwrap_or_default(),
        conditional: !signing_up,
    })
}

/// `POST /log-in/challenge`
pub async fn challenge(State(app): State<App>, client: Client) -> HandlerResult {
    let (token, options) = app.accounts.log_in_challenge(&client).await?;
    Ok((AppendHeaders([cookies::ceremony(&token)]), Json(options)).into_response())
}

/// `POST /log-in?next=` with the browser's response to the challenge.
pub async fn passkey(
    State(app): State<App>,
    client: Client,
    DeviceToken(device): DeviceToken,
    CeremonyToken(token): CeremonyToken,
    Query(way): Query<ReturnPathQuery>,
    Json(answer): Json<Value>,
) -> HandlerResult {
    let next = ReturnPath::parse(&way.next);
    match app.accounts.log_in(&token, answer, device.as_deref(), &client).await? {
        LogInOutcome::Complete(signed_in) => {
            wake_on_the_way(&app, next.as_ref(), &signed_in).await;
            let next = next.map_or_else(|| "/".to_owned(), |next| next.0);
            Ok((cookies::signed_in(&signed_in), Json(json!({ "next": next }))).into_response())
        }
        LogInOutcome::CodeRequired(token) => {
            // The token of the second factor replaces the first token in the same cookie.
            let next = next.map_or_else(|| "/log-in/code".to_owned(), |next| next.after("/log-in/code"));
            let cookie = cookies::ceremony(&token);
            Ok((AppendHeaders([cookie]), Json(json!({ "next": next }))).into_response())
        }
    }
}

/// Prefetches the wake: when the owner of the instance at the end of the return path has just logged in, the wake
/// starts while the browser follows the redirects.
async fn wake_on_the_way(app: &App, next: Option<&ReturnPath>, signed_in: &NewSession) {
    let site = next.and_then(|next| app.config.hosts.classify(next.host()));
    if site.as_ref().and_then(HostKind::handle) != Some(&signed_in.handle) {
        return;
    }
    if let Some(instance) = app.instances.by_account(signed_in.account) {
        // An instance that cannot be woken is no reason to refuse the log-in; the visit itself shows the error.
        let _ = app.instances.wake(&instance, Cause::Visit).await;
    }
}

/// `GET /log-in/code?next=`
pub async fn code(Query(way): Query<ReturnPathQuery>) -> Page<LogInCodePage> {
    Page(LogInCodePage { next: way.next, note: String::new() })
}

/// `POST /log-in/code`
pub async fn code_given(
    State(app): State<App>,
    client: Client,
    CeremonyToken(token): CeremonyToken,
    Form(form): Form<LogInCodeForm>,
) -> HandlerResult {
    match app.accounts.log_in_code(&token, form.code.trim(), &client).await {
        Ok(signed_in) => {
            let next = ReturnPath::parse(&form.next);
            wake_on_the_way(&app, next.as_ref(), &signed_in).await;
            Ok(match next {
                // A page instead of a redirect, because of `form-action`; see `LogInContinuePage`.
                Some(ReturnPath(next)) => {
                    (cookies::signed_in(&signed_in), Page(LogInContinuePage { next })).into_response()
                }
                None => (cookies::signed_in(&signed_in), Redirect::to("/")).into_response(),
            })
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            Ok(problem.with(Page(LogInCodePage { next: form.next, note: problem.detail.clone() })))
        }
    }
}

/// `POST /log-out`
pub async fn out(State(app): State<App>, session: Session) -> Result<impl axum::response::IntoResponse, Problem> {
    app.accounts.log_out(&session).await?;
    Ok((AppendHeaders([cookies::logged_out()]), Redirect::to("/log-in")))
}
