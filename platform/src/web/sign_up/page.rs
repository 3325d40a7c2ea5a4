//! The pages of the sign-up wizard. Each step is a page; going back is always possible, and skipping ahead redirects to
//! the next step.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use axum::{Form, Json};
use berth_ground::error::Error;
use berth_ground::handle::Handle;
use serde::Deserialize;
use serde_json::{Value, json};

use super::availability::{HandleVerdict, reserved_handle};
use super::qr_code::QrPath;
use crate::accounts::{Client, SignUpStep, SignUpView};
use crate::app::App;
use crate::http::format::{self, Moment, StateView, WakeStep};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Fact;
use crate::web::cookies;
use crate::web::extractors::{CeremonyToken, OwnInstance};

/// Step 1: choose a handle.
#[derive(Template)]
#[template(path = "sign_up/handle.html")]
pub struct HandlePage {
    /// The suffix of an instance's address after the handle.
    pub suffix: String,
    pub handle: String,
    pub set_up: String,
    /// Whether sign-ups are closed and the browser came without a set-up link.
    pub closed: bool,
    pub note: String,
    /// `free`, `bad` or empty.
    pub verdict: &'static str,
    pub suggestions: Vec<String>,
}

/// Step 2: register a passkey.
#[derive(Template)]
#[template(path = "sign_up/passkey.html")]
pub struct SignUpPasskeyPage {
    pub handle: String,
}

/// Step 3: add a one-time-code app.
#[derive(Template)]
#[template(path = "sign_up/code.html")]
pub struct SignUpCodePage {
    pub handle: String,
    pub qr: QrPath,
    /// An `otpauth:` address, which opens the app on the same device.
    pub uri: String,
    /// The secret in groups of four, to be typed.
    pub secret: String,
    pub note: String,
}

/// Step 4: keep the recovery codes.
#[derive(Template)]
#[template(path = "sign_up/recovery_codes.html")]
pub struct SignUpRecoveryCodesPage {
    pub handle: String,
    pub codes: Vec<String>,
}

/// The last page: the instance is being created.
#[derive(Template)]
#[template(path = "sign_up/welcome.html")]
pub struct WelcomePage {
    pub handle: String,
    pub instance_origin: String,
    pub state: StateView,
    pub awake: bool,
    pub steps: [WakeStep; 4],
    /// When the instance's address becomes reachable, if its certificate is queued.
    pub opens_at: Option<Moment>,
}

#[derive(Default, Deserialize)]
pub struct HandleForm {
    #[serde(default)]
    handle: String,
    #[serde(default, rename = "set-up")]
    set_up: String,
}

#[derive(Deserialize)]
pub struct SignUpCodeForm {
    #[serde(default)]
    pub code: String,
}

/// `GET /sign-up?handle=&set-up=`
pub async fn handle(
    State(app): State<App>,
    pending: Option<CeremonyToken>,
    Query(form): Query<HandleForm>,
) -> HandlerResult {
    let reserved = reserved_handle(&app, pending.as_ref()).await;
    Ok(Page(handle_page(&app, form, reserved.as_ref(), None).await?).into_response())
}

/// `POST /sign-up`: reserves the handle for this browser.
pub async fn claim(
    State(app): State<App>,
    client: Client,
    pending: Option<CeremonyToken>,
    Form(form): Form<HandleForm>,
) -> HandlerResult {
    // A user who goes back to choose another handle releases the previous one, which would stay reserved for half an
    // hour otherwise.
    let previous = pending.as_ref().map(|pending| pending.0.as_str());
    let link = Some(form.set_up.as_str()).filter(|link| !link.is_empty());
    match app.accounts.sign_up_begin(&form.handle, previous, link, &client).await {
        Ok(token) => Ok((AppendHeaders([cookies::ceremony(&token)]), Redirect::to("/sign-up/passkey")).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            Ok(problem.with(Page(handle_page(&app, form, None, Some(&problem)).await?)))
        }
    }
}

/// `GET /sign-up/passkey`
pub async fn passkey(State(app): State<App>, CeremonyToken(token): CeremonyToken) -> HandlerResult {
    match progress(&app, &token).await? {
        SignUpProgress::UnderWay(SignUpView { handle, step: SignUpStep::Passkey }) => {
            Ok(Page(SignUpPasskeyPage { handle: handle.to_string() }).into_response())
        }
        SignUpProgress::UnderWay(other) => Ok(Redirect::to(page_of(&other.step)).into_response()),
        SignUpProgress::Over(first_page) => Ok(first_page),
    }
}

/// `POST /sign-up/passkey/challenge`
pub async fn passkey_challenge(
    State(app): State<App>,
    CeremonyToken(token): CeremonyToken,
) -> HandlerResult<Json<Value>> {
    Ok(Json(app.accounts.sign_up_passkey_challenge(&token).await?))
}

/// `POST /sign-up/passkey` with the browser's response to the challenge.
pub async fn passkey_made(
    State(app): State<App>,
    CeremonyToken(token): CeremonyToken,
    Json(answer): Json<Value>,
) -> HandlerResult<Json<Value>> {
    app.accounts.sign_up_passkey(&token, answer).await?;
    Ok(Json(json!({ "next": "/sign-up/code" })))
}

/// `GET /sign-up/code`
pub async fn code(State(app): State<App>, CeremonyToken(token): CeremonyToken) -> HandlerResult {
    show_code(&app, &token, None).await
}

/// `POST /sign-up/code` with the first code of the app.
pub async fn code_confirmed(
    State(app): State<App>,
    CeremonyToken(token): CeremonyToken,
    Form(form): Form<SignUpCodeForm>,
) -> HandlerResult {
    match app.accounts.sign_up_code(&token, form.code.trim()).await {
        Ok(()) => Ok(Redirect::to("/sign-up/recovery-codes").into_response()),
        Err(error) => show_code(&app, &token, Some(Problem::in_place(error)?)).await,
    }
}

/// `GET /sign-up/recovery-codes`
pub async fn recovery_codes(State(app): State<App>, CeremonyToken(token): CeremonyToken) -> HandlerResult {
    match progress(&app, &token).await? {
        SignUpProgress::UnderWay(SignUpView { handle, step: SignUpStep::RecoveryCodes(codes) }) => {
            Ok(Page(SignUpRecoveryCodesPage { handle: handle.to_string(), codes }).into_response())
        }
        SignUpProgress::UnderWay(other) => Ok(Redirect::to(page_of(&other.step)).into_response()),
        SignUpProgress::Over(first_page) => Ok(first_page),
    }
}

/// `POST /sign-up/finish`: creates the account; the instance is created in the background.
pub async fn finish(State(app): State<App>, client: Client, CeremonyToken(token): CeremonyToken) -> HandlerResult {
    let (signed_in, _) = app.accounts.sign_up_finish(&token, &client).await?;
    Ok((cookies::signed_in(&signed_in), Redirect::to("/welcome")).into_response())
}

/// `GET /welcome`
pub async fn welcome(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Page<WelcomePage> {
    let status = instance.status();
    Page(WelcomePage {
        handle: instance.handle.to_string(),
        instance_origin: app.config.hosts.instance_origin(&instance.handle),
        state: format::state(&status, app.clock.now()),
        awake: status.fact == Fact::Awake,
        steps: format::steps(status.stage),
        opens_at: app.certificates.ready_at(&instance.handle).map(Moment),
    })
}

/// The state of a browser's sign-up, for the page of one of its steps.
enum SignUpProgress {
    UnderWay(SignUpView),
    /// It expired or was finished elsewhere: the response is the first page with a sentence that says so.
    Over(Response),
}

async fn progress(app: &App, token: &str) -> HandlerResult<SignUpProgress> {
    match app.accounts.sign_up(token).await {
        Ok(sign_up) => Ok(SignUpProgress::UnderWay(sign_up)),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = handle_page(app, HandleForm::default(), None, Some(&problem)).await?;
            // With the status of the error, because the page replaces the requested step.
            Ok(SignUpProgress::Over(problem.with(Page(page))))
        }
    }
}

fn page_of(step: &SignUpStep) -> &'static str {
    match step {
        SignUpStep::Passkey => "/sign-up/passkey",
        SignUpStep::OneTimeCode { .. } => "/sign-up/code",
        SignUpStep::RecoveryCodes(_) => "/sign-up/recovery-codes",
    }
}

async fn handle_page(
    app: &App,
    form: HandleForm,
    reserved: Option<&Handle>,
    problem: Option<&Problem>,
) -> Result<HandlePage, Error> {
    let mut shown = HandleVerdict { verdict: "", note: String::new(), suggestions: Vec::new() };
    if !form.handle.is_empty() {
        let availability = app.accounts.handle_availability(&form.handle).await?;
        shown = HandleVerdict::of(&form.handle, availability, reserved);
    }
    // The validation message comes before the availability: the handle may be free and the link expired.
    if let Some(problem) = problem {
        (shown.verdict, shown.note) = ("bad", problem.detail.clone());
    }
    Ok(HandlePage {
        suffix: format!(".{}{}", app.config.hosts.instances, app.config.hosts.port),
        closed: !app.config.signups_open && form.set_up.is_empty(),
        handle: form.handle,
        set_up: form.set_up,
        note: shown.note,
        verdict: shown.verdict,
        suggestions: shown.suggestions,
    })
}

async fn show_code(app: &App, token: &str, problem: Option<Problem>) -> HandlerResult {
    let (handle, uri, secret) = match progress(app, token).await? {
        SignUpProgress::UnderWay(SignUpView { handle, step: SignUpStep::OneTimeCode { uri, secret } }) => {
            (handle.to_string(), uri, secret)
        }
        SignUpProgress::UnderWay(other) => return Ok(Redirect::to(page_of(&other.step)).into_response()),
        SignUpProgress::Over(first_page) => return Ok(first_page),
    };
    let note = problem.as_ref().map(|problem| problem.detail.clone()).unwrap_or_default();
    let page = Page(SignUpCodePage { handle, qr: QrPath::of(&uri)?, uri, secret: in_fours(&secret), note });
    Ok(match problem {
        Some(problem) => problem.with(page),
        None => page.into_response(),
    })
}

fn in_fours(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect()).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_shown_in_groups() {
        assert_eq!(in_fours("JBSWY3DPEH"), "JBSW Y3DP EH");
    }
}
