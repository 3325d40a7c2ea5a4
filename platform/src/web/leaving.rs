//! Leaving: giving up one's account, seeing when it goes, and staying after all.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};

#[derive(Template)]
#[template(path = "leaving/ask.html")]
pub struct AskPage {
    pub handle: String,
    pub is_admin: bool,
    pub instance_host: String,
    /// How long the account can still be kept: "7 days".
    pub grace: String,
    pub note: String,
}

/// Nobody is logged in any more when this is shown.
#[derive(Template)]
#[template(path = "leaving/left.html")]
pub struct LeftPage {
    pub handle: String,
    pub due: Moment,
}

/// All that somebody who leaves can see.
#[derive(Template)]
#[template(path = "leaving/leaving.html")]
pub struct LeavingPage {
    pub handle: String,
    pub due: Moment,
    pub may_stay: bool,
}

#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    handle: String,
}

/// `GET /leave`
pub async fn ask(State(app): State<App>, session: Session) -> Page<AskPage> {
    Page(ask_page(&app, &session, String::new()))
}

/// `POST /leave`: the handle, typed by hand.
pub async fn leave(State(app): State<App>, session: Session, Form(typed): Form<Typed>) -> Answer {
    match app.accounts.schedule_deletion(&session, &typed.handle).await {
        Ok(due) => Ok(Page(LeftPage { handle: session.handle.to_string(), due: Moment(due) }).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            Ok(problem.with(Page(ask_page(&app, &session, problem.detail.clone()))))
        }
    }
}

/// `GET /leaving`: also for somebody who stays, who is sent on.
pub async fn show(State(app): State<App>, session: Session) -> Answer {
    let Some(leaving) = app.accounts.scheduled_deletion(&session).await? else {
        return Ok(Redirect::to("/").into_response());
    };
    let (due, may_stay) = (Moment(leaving.due), leaving.owner_may_cancel);
    Ok(Page(LeavingPage { handle: session.handle.to_string(), due, may_stay }).into_response())
}

/// `POST /leaving/stay`
pub async fn stay(State(app): State<App>, session: Session) -> Answer<Redirect> {
    app.accounts.cancel_deletion(&session).await?;
    Ok(Redirect::to("/"))
}

fn ask_page(app: &App, session: &Session, note: String) -> AskPage {
    AskPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        instance_host: app.config.hosts.instance_host(&session.handle),
        grace: crate::http::format::span(app.config.containers.delete_after),
        note,
    }
}
