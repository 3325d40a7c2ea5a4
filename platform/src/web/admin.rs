//! What the operator sees of everybody: accounts and their instances. All it changes is to stop one that is stuck; the
//! command line does the rest.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Redirect;

use super::why::{self, Why};
use crate::accounts::{AccountState, AccountView, Role, Session};
use crate::app::App;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::format::{self, Moment};
use crate::http::page::Page;
use crate::http::problem::Answer;
use crate::instances::{Cause, Wish};
use crate::mailbox::Counts;

#[derive(Template)]
#[template(path = "admin/admin.html")]
pub struct AdminPage {
    pub handle: String,
    pub is_admin: bool,
    pub awake: usize,
    /// Of everybody.
    pub mail: Counts,
    pub alarms: u64,
    pub accounts: Vec<AccountRow>,
}

/// An account and its instance.
pub struct AccountRow {
    pub handle: String,
    pub admin: bool,
    /// `suspended`, `leaving`, or empty.
    pub tag: &'static str,
    pub created: Moment,
    pub passkeys: u64,
    pub recovery_codes_left: u64,
    /// That wait or were given up.
    pub letters: u64,
    pub instance: Option<InstanceCell>,
}

/// How an instance is doing.
pub struct InstanceCell {
    pub lamp: &'static str,
    pub headline: &'static str,
    pub since: Moment,
    pub cause: &'static str,
    pub failure: String,
    pub stuck: bool,
    pub why: Why,
}

/// `GET /admin`
pub async fn show(State(app): State<App>, session: Session) -> Answer<Page<AdminPage>> {
    let mut accounts = app.accounts.accounts().await?;
    // Of these only the handle is left, and that is nobody's any more.
    accounts.retain(|account| account.state != AccountState::Deleted);
    Ok(Page(AdminPage {
        handle: session.handle.to_string(),
        is_admin: is_admin(&session),
        awake: app.instances.awake_count(),
        mail: app.mailbox.counts_of_all(),
        alarms: app.alarms.count().await?,
        accounts: accounts.into_iter().map(|account| row(&app, account)).collect(),
    }))
}

/// `POST /admin/instances/{handle}/stop`: what frees one that is stuck. Its next visit starts it afresh.
pub async fn stop(State(app): State<App>, Path(handle): Path<String>) -> Answer<Redirect> {
    let handle = Handle::parse(&handle).map_err(|_| Error::NotFound)?;
    let instance = app.instances.by_handle(&handle).ok_or(Error::NotFound)?;
    app.instances.sleep(&instance, Wish::Stopped, Cause::OperatorAsked).await?;
    Ok(Redirect::to("/admin"))
}

/// Whether the navigation shows the way here.
pub fn is_admin(session: &Session) -> bool {
    session.role == Role::Admin
}

fn row(app: &App, account: AccountView) -> AccountRow {
    let instance = app.instances.by_account(account.id);
    let counts = instance.as_ref().map(|instance| app.mailbox.counts(instance.id)).unwrap_or_default();
    let instance = instance.map(|instance| {
        let status = instance.status();
        InstanceCell {
            lamp: format::lamp(status.fact),
            headline: format::headline(status.fact),
            since: Moment(status.since),
            cause: format::cause(status.cause),
            stuck: status.is_stuck(app.clock.now()),
            failure: status.failure.unwrap_or_default(),
            why: why::why(&app.instances.ledger(&instance), instance.is_up()),
        }
    });
    AccountRow {
        handle: account.handle.to_string(),
        admin: account.role == Role::Admin,
        tag: match account.state {
            AccountState::Active | AccountState::Deleted => "",
            AccountState::Suspended => "suspended",
            AccountState::Deleting => "leaving",
        },
        created: Moment(account.created_at),
        passkeys: account.passkeys,
        recovery_codes_left: account.recovery_codes_left,
        letters: counts.waiting + counts.failed,
        instance,
    }
}
