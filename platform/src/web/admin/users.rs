//! The operator's list of users and their instances. It changes nothing but to stop an instance that is stuck; the
//! command line does the rest.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Redirect;
use berth_ground::error::Error;
use berth_ground::handle::Handle;

use crate::accounts::{AccountState, AccountView, Role, Session};
use crate::app::App;
use crate::http::format::{self, Moment};
use crate::http::page::Page;
use crate::http::problem::HandlerResult;
use crate::instances::{Cause, Wish};
use crate::web::instance::awake_view::{self, AwakeView};
use crate::web::page_head::PageHead;
use crate::webhooks::InboxCounts;

#[derive(Template)]
#[template(path = "admin/users.html")]
pub struct UsersPage {
    pub head: PageHead,
    pub awake: usize,
    /// Webhook deliveries of all users.
    pub webhooks: InboxCounts,
    pub alarms: u64,
    pub accounts: Vec<UserRow>,
}

/// A user and their instance.
pub struct UserRow {
    pub handle: String,
    pub admin: bool,
    /// `suspended`, `deletion scheduled`, or empty.
    pub tag: &'static str,
    pub created: Moment,
    pub passkeys: u64,
    pub recovery_codes_left: u64,
    /// Webhook deliveries that wait or are dead letters.
    pub webhooks: u64,
    pub instance: Option<InstanceCell>,
}

/// The state of an instance.
pub struct InstanceCell {
    pub lamp: &'static str,
    pub headline: &'static str,
    pub since: Moment,
    pub cause: &'static str,
    pub failure: String,
    pub stuck: bool,
    pub why: AwakeView,
}

/// `GET /admin`
pub async fn show(State(app): State<App>, session: Session) -> HandlerResult<Page<UsersPage>> {
    let mut accounts = app.accounts.accounts().await?;
    // A deleted account keeps its handle as a tombstone, so that the handle is never assigned again.
    accounts.retain(|account| account.state != AccountState::Deleted);
    Ok(Page(UsersPage {
        head: (&session).into(),
        awake: app.instances.awake_count(),
        webhooks: app.webhooks.total_counts(),
        alarms: app.alarms.count().await?,
        accounts: accounts.into_iter().map(|account| row(&app, account)).collect(),
    }))
}

/// `POST /admin/instances/{handle}/stop` frees an instance that is stuck. Its next visit starts it afresh.
pub async fn stop(State(app): State<App>, Path(handle): Path<String>) -> HandlerResult<Redirect> {
    let handle = Handle::parse(&handle).map_err(|_| Error::NotFound)?;
    let instance = app.instances.by_handle(&handle).ok_or(Error::NotFound)?;
    app.instances.sleep(&instance, Wish::Stopped, Cause::OperatorAsked).await?;
    Ok(Redirect::to("/admin"))
}

fn row(app: &App, account: AccountView) -> UserRow {
    // From memory: the page must not wake or even touch an instance.
    let instance = app.instances.by_account(account.id);
    let counts = instance.as_ref().map(|instance| app.webhooks.counts(instance.id)).unwrap_or_default();
    let instance = instance.map(|instance| {
        let status = instance.status();
        InstanceCell {
            lamp: format::lamp(status.fact),
            headline: format::headline(status.fact),
            since: Moment(status.since),
            cause: format::cause(status.cause),
            stuck: status.is_stuck(app.clock.now()),
            failure: status.failure.unwrap_or_default(),
            why: awake_view::awake_view(&app.instances.awake_report(&instance), instance.is_up()),
        }
    });
    UserRow {
        handle: account.handle.to_string(),
        admin: account.role == Role::Admin,
        tag: match account.state {
            AccountState::Active | AccountState::Deleted => "",
            AccountState::Suspended => "suspended",
            AccountState::Deleting => "deletion scheduled",
        },
        created: Moment(account.created_at),
        passkeys: account.passkeys,
        recovery_codes_left: account.recovery_codes_left,
        webhooks: counts.waiting + counts.dead_letters,
        instance,
    }
}
