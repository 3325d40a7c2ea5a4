//! Logging in with a passkey, the one-time code where it is asked for, recovery, and logging out.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookies;
use super::extractors::{Device, Pending};
use crate::accounts::{Client, LogInOutcome, NewSession, Session};
use crate::app::App;
use crate::hosts::Site;
use crate::http::format::query_value;
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::instances::Cause;

#[derive(Template)]
#[template(path = "log_in/log_in.html")]
pub struct LogInPage {
    /// The way on, or empty.
    pub next: String,
    /// The instance that somebody was on the way to, or empty.
    pub instance: String,
    /// Whether the page may ask for a challenge by itself: not while this browser is signing up, whose cookie it would replace.
    pub conditional: bool,
}

#[derive(Template)]
#[template(path = "log_in/code.html")]
pub struct CodePage {
    pub next: String,
    pub note: String,
}

#[derive(Template)]
#[template(path = "log_in/recover.html")]
pub struct RecoverPage {
    pub handle: String,
    pub note: String,
    /// The name of the field that `note` is about, or empty.
    pub field: String,
}

/// After the one-time code, on the way to an instance. A form's answer may not redirect to another host (`form-action`),
/// a page may.
#[derive(Template)]
#[template(path = "log_in/go_on.html")]
pub struct GoOnPage {
    pub next: String,
}

/// Where to go after logging in: a hand-off on our own host, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next(String);

impl Next {
    /// `None` for everything but `/hand-off?..`, which then is checked by the hand-off itself.
    pub fn parse(path: &str) -> Option<Self> {
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        (path.starts_with("/hand-off?") && plain).then(|| Self(path.to_owned()))
    }

    /// `page` with this way on.
    pub fn after(&self, page: &str) -> String {
        format!("{page}?next={}", query_value(&self.0))
    }

    /// The host that the hand-off is for, as it was asked for.
    fn host(&self) -> &str {
        let pairs = self.0.split(['?', '&']);
        pairs.filter_map(|pair| pair.strip_prefix("host=")).next().unwrap_or_default()
    }
}

#[derive(Deserialize)]
pub struct WayOn {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct CodeForm {
    #[serde(default)]
    code: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct RecoverForm {
    #[serde(default)]
    handle: String,
    #[serde(default)]
    recovery_code: String,
    #[serde(default)]
    code: String,
}

/// `GET /log-in?next=`
pub async fn show(State(app): State<App>, pending: Option<Pending>, Query(way): Query<WayOn>) -> Page<LogInPage> {
    let next = Next::parse(&way.next);
    let signing_up = match pending {
        Some(Pending(token)) => app.accounts.sign_up(&token).await.is_ok(),
        None => false,
    };
    Page(LogInPage {
        instance: next.as_ref().map(|next| next.host().to_owned()).unwrap_or_default(),
        next: next.map(|next| next.0).unwrap_or_default(),
        conditional: !signing_up,
    })
}

/// `POST /log-in/challenge`
pub async fn challenge(State(app): State<App>, client: Client) -> Answer {
    let (token, options) = app.accounts.log_in_challenge(&client).await?;
    Ok((AppendHeaders([cookies::ceremony(&token)]), Json(options)).into_response())
}

/// `POST /log-in?next=`: the browser's answer.
pub async fn passkey(
    State(app): State<App>,
    client: Client,
    Device(device): Device,
    Pending(token): Pending,
    Query(way): Query<WayOn>,
    Json(answer): Json<Value>,
) -> Answer {
    let next = Next::parse(&way.next);
    match app.accounts.log_in(&token, answer, device.as_deref(), &client).await? {
        LogInOutcome::Complete(signed_in) => {
            wake_on_the_way(&app, next.as_ref(), &signed_in).await;
            let next = next.map_or_else(|| "/".to_owned(), |next| next.0);
            Ok((cookies::signed_in(&signed_in), Json(json!({ "next": next }))).into_response())
        }
        LogInOutcome::CodeRequired(token) => {
            let next = next.map_or_else(|| "/log-in/code".to_owned(), |next| next.after("/log-in/code"));
            let cookie = cookies::ceremony(&token);
            Ok((AppendHeaders([cookie]), Json(json!({ "next": next }))).into_response())
        }
    }
}

/// Somebody on the way to an instance just proved to be its owner: it wakes while the browser follows the redirects.
async fn wake_on_the_way(app: &App, next: Option<&Next>, signed_in: &NewSession) {
    let site = next.and_then(|next| app.config.hosts.site(next.host()));
    if site.as_ref().and_then(Site::handle) != Some(&signed_in.handle) {
        return;
    }
    if let Some(instance) = app.instances.by_account(signed_in.account) {
        // Where it cannot be woken, the visit itself is told why.
        let _ = app.instances.wake(&instance, Cause::Visit).await;
    }
}

/// `GET /log-in/code?next=`
pub async fn code(Query(way): Query<WayOn>) -> Page<CodePage> {
    Page(CodePage { next: way.next, note: String::new() })
}

/// `POST /log-in/code`
pub async fn code_given(
    State(app): State<App>,
    client: Client,
    Pending(token): Pending,
    Form(form): Form<CodeForm>,
) -> Answer {
    match app.accounts.log_in_code(&token, form.code.trim(), &client).await {
        Ok(signed_in) => {
            let next = Next::parse(&form.next);
            wake_on_the_way(&app, next.as_ref(), &signed_in).await;
            Ok(match next {
                Some(Next(next)) => (cookies::signed_in(&signed_in), Page(GoOnPage { next })).into_response(),
                None => (cookies::signed_in(&signed_in), Redirect::to("/")).into_response(),
            })
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            Ok(problem.with(Page(CodePage { next: form.next, note: problem.detail.clone() })))
        }
    }
}

/// `GET /recover`
pub async fn recover() -> Page<RecoverPage> {
    Page(RecoverPage { handle: String::new(), note: String::new(), field: String::new() })
}

/// `POST /recover`: on to a new passkey.
pub async fn recover_with_code(State(app): State<App>, client: Client, Form(form): Form<RecoverForm>) -> Answer {
    let (handle, code) = (form.handle.trim(), form.code.trim());
    match app.accounts.recover(handle, form.recovery_code.trim(), code, &client).await {
        Ok(signed_in) => Ok((cookies::signed_in(&signed_in), Redirect::to("/passkeys?recovered=yes")).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let field = problem.field.unwrap_or_default().to_owned();
            Ok(problem.with(Page(RecoverPage { handle: form.handle, note: problem.detail.clone(), field })))
        }
    }
}

/// `POST /log-out`
pub async fn out(State(app): State<App>, session: Session) -> Result<impl axum::response::IntoResponse, Problem> {
    app.accounts.log_out(&session).await?;
    Ok((AppendHeaders([cookies::logged_out()]), Redirect::to("/log-in")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_stays_on_our_own_host() {
        for bad in [
            "",
            "/",
            "//evil.test/hand-off?",
            "https://evil.test/hand-off?host=a",
            "/hand-off/../admin",
            "/hand-off?a=\\b",
            "/hand-off?a=b\r\nSet-Cookie: x",
            "/log-out",
        ] {
            assert_eq!(Next::parse(bad), None, "{bad}");
        }
        let next = Next::parse("/hand-off?host=alice.example.com&state=s").unwrap();
        assert_eq!(next.host(), "alice.example.com");
        assert_eq!(next.after("/log-in"), "/log-in?next=%2Fhand-off%3Fhost%3Dalice.example.com%26state%3Ds");
    }
}
