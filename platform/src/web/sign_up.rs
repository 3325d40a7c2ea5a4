//! Signing up: a handle, a passkey, a one-time-code app, recovery codes; then the instance is made before one's eyes.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use axum::{Form, Json};
use qrcode::{Color, QrCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookies;
use super::extractors::{Mine, Pending};
use crate::accounts::{Client, HandleAvailability, SignUpProgress, SignUpStep};
use crate::app::App;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::format::{self, Moment, StateInWords, Step};
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::instances::Fact;

/// The first page: which handle.
#[derive(Template)]
#[template(path = "sign_up/handle.html")]
pub struct HandlePage {
    /// What stands behind the handle in the address.
    pub suffix: String,
    pub handle: String,
    pub set_up: String,
    /// Sign-ups are closed, and there is no set-up link.
    pub closed: bool,
    pub note: String,
    /// `free`, `bad` or empty.
    pub verdict: &'static str,
    pub suggestions: Vec<String>,
}

/// The second: a passkey.
#[derive(Template)]
#[template(path = "sign_up/passkey.html")]
pub struct PasskeyPage {
    pub handle: String,
}

/// The third: a one-time-code app.
#[derive(Template)]
#[template(path = "sign_up/code.html")]
pub struct CodePage {
    pub handle: String,
    pub qr: QrPath,
    /// Opens the app where it is on this very device.
    pub uri: String,
    /// In groups of four, to type.
    pub secret: String,
    pub note: String,
}

/// The fourth: recovery codes.
#[derive(Template)]
#[template(path = "sign_up/recovery_codes.html")]
pub struct RecoveryCodesPage {
    pub handle: String,
    pub codes: Vec<String>,
}

/// The last: the instance is being made.
#[derive(Template)]
#[template(path = "sign_up/welcome.html")]
pub struct WelcomePage {
    pub handle: String,
    pub instance_origin: String,
    pub state: StateInWords,
    pub awake: bool,
    pub steps: [Step; 4],
    /// When its address can be opened, where that is later than now.
    pub opens_at: Option<Moment>,
}

#[derive(Deserialize)]
pub struct HandleForm {
    #[serde(default)]
    handle: String,
    #[serde(default, rename = "set-up")]
    set_up: String,
}

#[derive(Deserialize)]
pub struct CodeForm {
    #[serde(default)]
    pub code: String,
}

/// `GET /sign-up?handle=&set-up=`
pub async fn handle(State(app): State<App>, pending: Option<Pending>, Query(asked): Query<HandleForm>) -> Answer {
    let held = held(&app, pending.as_ref()).await;
    Ok(Page(handle_page(&app, asked, held.as_ref(), None).await?).into_response())
}

/// `POST /sign-up`: claims the handle for this browser.
pub async fn claim(
    State(app): State<App>,
    client: Client,
    pending: Option<Pending>,
    Form(form): Form<HandleForm>,
) -> Answer {
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
pub async fn passkey(State(app): State<App>, Pending(token): Pending) -> Answer {
    match sign_up(&app, &token).await? {
        Ok(SignUpProgress { handle, step: SignUpStep::Passkey }) => {
            Ok(Page(PasskeyPage { handle: handle.to_string() }).into_response())
        }
        Ok(elsewhere) => Ok(Redirect::to(page_of(&elsewhere.step)).into_response()),
        Err(start_again) => Ok(start_again),
    }
}

/// `POST /sign-up/passkey/challenge`
pub async fn passkey_challenge(State(app): State<App>, Pending(token): Pending) -> Answer<Json<Value>> {
    Ok(Json(app.accounts.sign_up_passkey_challenge(&token).await?))
}

/// `POST /sign-up/passkey`: the browser's answer.
pub async fn passkey_made(
    State(app): State<App>,
    Pending(token): Pending,
    Json(answer): Json<Value>,
) -> Answer<Json<Value>> {
    app.accounts.sign_up_passkey(&token, answer).await?;
    Ok(Json(json!({ "next": "/sign-up/code" })))
}

/// `GET /sign-up/code`
pub async fn code(State(app): State<App>, Pending(token): Pending) -> Answer {
    show_code(&app, &token, None).await
}

/// `POST /sign-up/code`: the first code of the app.
pub async fn code_confirmed(State(app): State<App>, Pending(token): Pending, Form(form): Form<CodeForm>) -> Answer {
    match app.accounts.sign_up_code(&token, form.code.trim()).await {
        Ok(()) => Ok(Redirect::to("/sign-up/recovery-codes").into_response()),
        Err(error) => show_code(&app, &token, Some(Problem::in_place(error)?)).await,
    }
}

/// `GET /sign-up/recovery-codes`
pub async fn recovery_codes(State(app): State<App>, Pending(token): Pending) -> Answer {
    match sign_up(&app, &token).await? {
        Ok(SignUpProgress { handle, step: SignUpStep::RecoveryCodes(codes) }) => {
            Ok(Page(RecoveryCodesPage { handle: handle.to_string(), codes }).into_response())
        }
        Ok(elsewhere) => Ok(Redirect::to(page_of(&elsewhere.step)).into_response()),
        Err(start_again) => Ok(start_again),
    }
}

/// `POST /sign-up/finish`: makes the account and begins to make the instance.
pub async fn finish(State(app): State<App>, client: Client, Pending(token): Pending) -> Answer {
    let (signed_in, _) = app.accounts.sign_up_finish(&token, &client).await?;
    // In the order of signing up, whoever's browser is the first to knock.
    app.certificates.reserve(&signed_in.handle);
    Ok((cookies::signed_in(&signed_in), Redirect::to("/welcome")).into_response())
}

/// `GET /welcome`
pub async fn welcome(State(app): State<App>, Mine(instance): Mine) -> Page<WelcomePage> {
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

/// Where this browser's sign-up stands; or, when that is over, the first page with a sentence.
async fn sign_up(app: &App, token: &str) -> Answer<Result<SignUpProgress, Response>> {
    match app.accounts.sign_up(token).await {
        Ok(sign_up) => Ok(Ok(sign_up)),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let asked = HandleForm { handle: String::new(), set_up: String::new() };
            let page = Page(handle_page(app, asked, None, Some(&problem)).await?);
            Ok(Err(problem.with(page)))
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

/// The handle that this browser's sign-up holds.
pub async fn held(app: &App, pending: Option<&Pending>) -> Option<Handle> {
    Some(app.accounts.sign_up(&pending?.0).await.ok()?.handle)
}

async fn handle_page(
    app: &App,
    asked: HandleForm,
    held: Option<&Handle>,
    problem: Option<&Problem>,
) -> Result<HandlePage, Error> {
    let (mut verdict, mut note, mut suggestions) = ("", String::new(), Vec::new());
    if !asked.handle.is_empty() {
        (verdict, note, suggestions) =
            in_words(&asked.handle, app.accounts.handle_availability(&asked.handle).await?, held);
    }
    if let Some(problem) = problem {
        (verdict, note) = ("bad", problem.detail.clone());
    }
    Ok(HandlePage {
        suffix: format!(".{}{}", app.config.hosts.instances, app.config.hosts.port),
        closed: !app.config.signups_open && asked.set_up.is_empty(),
        handle: asked.handle,
        set_up: asked.set_up,
        note,
        verdict,
        suggestions,
    })
}

/// Verdict, sentence and suggestions for what was typed. `held`: the handle this browser's sign-up holds.
pub fn in_words(
    typed: &str,
    availability: HandleAvailability,
    held: Option<&Handle>,
) -> (&'static str, String, Vec<String>) {
    match availability {
        // Somebody has it: whoever asks, who came back a page.
        HandleAvailability::Taken { .. } if held.is_some() && Handle::claim(typed).ok().as_ref() == held => {
            ("free", "It is yours already: go on where you were.".into(), Vec::new())
        }
        HandleAvailability::Free => ("free", "Free, and yours if you want it.".into(), Vec::new()),
        HandleAvailability::Taken { suggestions } => {
            let note = "Somebody has that name, or one that looks just like it.";
            ("bad", note.into(), suggestions.iter().map(ToString::to_string).collect())
        }
        HandleAvailability::Invalid(why) => ("bad", why.to_string(), Vec::new()),
    }
}

async fn show_code(app: &App, token: &str, problem: Option<Problem>) -> Answer {
    let (handle, uri, secret) = match sign_up(app, token).await? {
        Ok(SignUpProgress { handle, step: SignUpStep::OneTimeCode { uri, secret } }) => {
            (handle.to_string(), uri, secret)
        }
        Ok(elsewhere) => return Ok(Redirect::to(page_of(&elsewhere.step)).into_response()),
        Err(start_again) => return Ok(start_again),
    };
    let note = problem.as_ref().map(|problem| problem.detail.clone()).unwrap_or_default();
    let page = Page(CodePage { handle, qr: QrPath::of(&uri)?, uri, secret: in_fours(&secret), note });
    Ok(match problem {
        Some(problem) => problem.with(page),
        None => page.into_response(),
    })
}

fn in_fours(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect()).collect::<Vec<String>>().join(" ")
}

/// A QR code as one SVG path, a unit for each module.
pub struct QrPath {
    /// Side of the whole with its quiet zone of four modules, which ISO/IEC 18004 asks for.
    pub side: usize,
    pub path: String,
}

impl QrPath {
    const QUIET: usize = 4;

    /// # Errors
    /// When the text is too long for a QR code (2 953 bytes).
    pub fn of(text: &str) -> Result<Self, Error> {
        let code = QrCode::new(text).map_err(|error| Error::Internal(error.into()))?;
        let width = code.width();
        let dark = code.to_colors().into_iter().enumerate().filter(|(_, color)| *color == Color::Dark);
        let square = |(i, _)| format!("M{} {}h1v1h-1z", i % width + Self::QUIET, i / width + Self::QUIET);
        Ok(Self { side: width + 2 * Self::QUIET, path: dark.map(square).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_has_its_quiet_zone_and_the_secret_its_groups() {
        let qr = QrPath::of("otpauth://totp/Berth:alice?secret=JBSWY3DPEHPK3PXP&issuer=Berth").unwrap();
        assert!(qr.path.starts_with("M4 4h1v1h-1z"), "the corner mark begins behind the quiet zone");
        assert!(qr.side >= 21 + 8);
        assert_eq!(in_fours("JBSWY3DPEH"), "JBSW Y3DP EH");
    }
}
