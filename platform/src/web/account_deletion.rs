//! The pages of account deletion: confirmation, the scheduled date, and cancelling within the grace period.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::web::access::AccessLevel::{LoggedIn, Member};
use crate::web::page_head::PageHead;
use crate::web::route::{Route, get, post};

/// The routes of account deletion.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/account/delete", Member, confirm),
        post("/account/delete", Member, schedule),
        get("/account/deletion", LoggedIn, show),
        post("/account/deletion/cancel", LoggedIn, cancel),
    ]
}

#[derive(Template)]
#[template(path = "account_deletion/confirm.html")]
pub struct DeleteAccountPage {
    pub head: PageHead,
    pub instance_host: String,
    /// How long the deletion can still be cancelled: "7 days".
    pub grace: String,
    pub note: String,
}

/// The response to the confirmation. By then every session of the account has ended.
#[derive(Template)]
#[template(path = "account_deletion/goodbye.html")]
pub struct DeletionStartedPage {
    pub handle: String,
    pub due: Moment,
}

/// The only page that an account scheduled for deletion sees.
#[derive(Template)]
#[template(path = "account_deletion/scheduled.html")]
pub struct DeletionScheduledPage {
    pub handle: String,
    pub due: Moment,
    pub may_stay: bool,
}

#[derive(Deserialize)]
pub struct DeleteAccountForm {
    #[serde(default)]
    handle: String,
}

/// `GET /account/delete`
pub async fn confirm(State(app): State<App>, session: Session) -> Page<DeleteAccountPage> {
    Page(confirmation_page(&app, &session, String::new()))
}

/// `POST /account/delete` with the handle, typed by hand as the confirmation.
pub async fn schedule(State(app): State<App>, session: Session, Form(typed): Form<DeleteAccountForm>) -> HandlerResult {
    match app.accounts.schedule_deletion(&session, &typed.handle).await {
        Ok(due) => {
            // Not a redirect: the deletion ended this session too, so every further page would ask to log in.
            Ok(Page(DeletionStartedPage { handle: session.handle.to_string(), due: Moment(due) }).into_response())
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            Ok(problem.with(Page(confirmation_page(&app, &session, problem.detail.clone()))))
        }
    }
}

/// `GET /account/deletion`. An account that is not scheduled for deletion is redirected to the dashboard.
pub async fn show(State(app): State<App>, session: Session) -> HandlerResult {
    let Some(leaving) = app.accounts.scheduled_deletion(&session).await? else {
        return Ok(Redirect::to("/").into_response());
    };
    // When the operator requested the deletion, only the operator can cancel it.
    let (due, may_stay) = (Moment(leaving.due), leaving.owner_may_cancel);
    Ok(Page(DeletionScheduledPage { handle: session.handle.to_string(), due, may_stay }).into_response())
}

/// `POST /account/deletion/cancel`
pub async fn cancel(State(app): State<App>, session: Session) -> HandlerResult<Redirect> {
    app.accounts.cancel_deletion(&session).await?;
    Ok(Redirect::to("/"))
}

fn confirmation_page(app: &App, session: &Session, note: String) -> DeleteAccountPage {
    DeleteAccountPage {
        head: session.into(),
        instance_host: app.config.hosts.instance_host(&session.handle),
        grace: crate::http::format::span(app.config.containers.delete_after),
        note,
    }
}
