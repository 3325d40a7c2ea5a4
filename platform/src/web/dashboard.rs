//! The dashboard: my instance, what it spent, where I am logged in, my passkeys.

use askama::Template;
use axum::extract::State;

use super::extractors::Mine;
use super::left::{self, AlertInWords};
use super::mailbox::{self, MailInWords};
use super::passkeys::PasskeyRow;
use super::ports::{self, PortsInWords};
pub use super::spend::{ModelInWords, SpendInWords};
use super::why::{self, Line, Why};
use crate::accounts::{Session, SessionView};
use crate::app::App;
use crate::domains::Domain;
use crate::error::Result;
use crate::http::format::{self, Moment, StateInWords};
use crate::http::page::Page;
use crate::http::problem::Answer;
use crate::instances::{Instance, Transition};

/// How many changes of fact are listed.
const HISTORY: u64 = 8;

#[derive(Template)]
#[template(path = "dashboard/dashboard.html")]
pub struct Dashboard {
    pub handle: String,
    pub is_admin: bool,
    pub instance_host: String,
    pub instance_origin: String,
    pub state: StateInWords,
    /// When its address can be opened, where that is later than now.
    pub opens_at: Option<Moment>,
    /// Whether its container is an older one than would be made now.
    pub outdated: bool,
    pub why: Why,
    pub history: Vec<HistoryRow>,
    pub spend: SpendInWords,
    pub alerts: Vec<AlertInWords>,
    pub mail: MailInWords,
    /// How much is open to others.
    pub shares: usize,
    /// The names of one's own by which it is entered.
    pub domains: Vec<String>,
    /// Behind them in an address: empty, or `:8443`.
    pub port: String,
    pub ports: PortsInWords,
    pub sessions: Vec<SessionRow>,
    pub passkeys: Vec<PasskeyRow>,
    /// How long somebody who leaves can change their mind.
    pub grace: String,
}

/// A change of fact.
pub struct HistoryRow {
    pub at: Moment,
    pub lamp: &'static str,
    pub to: &'static str,
    pub cause: &'static str,
    /// What it was last at, when it fell asleep.
    pub last: Option<Line>,
}

/// A login.
pub struct SessionRow {
    pub id: String,
    pub device: String,
    pub ip: String,
    pub created: Moment,
    pub last_used: Moment,
    pub current: bool,
}

/// `GET /`
pub async fn show(State(app): State<App>, session: Session, Mine(instance): Mine) -> Answer<Page<Dashboard>> {
    let ports = ports::in_words(&app, &instance);
    Ok(Page(page(&app, &session, &instance, ports).await?))
}

/// The dashboard, with what its form for ports says.
///
/// # Errors
/// When the database does not answer.
pub async fn page(app: &App, session: &Session, instance: &Instance, ports: PortsInWords) -> Result<Dashboard> {
    let (history, spend, left, alerts, mail, sessions, passkeys) = tokio::try_join!(
        app.instances.history(instance.id, HISTORY),
        app.quota.spend(session.account),
        app.quota.left(session.account),
        app.quota.alerts(session.account),
        mailbox::in_words(app, instance),
        app.accounts.sessions(session),
        app.accounts.passkeys(session),
    )?;
    Ok(Dashboard {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        instance_host: app.config.hosts.instance_host(&instance.handle),
        instance_origin: app.config.hosts.instance_origin(&instance.handle),
        outdated: instance.is_outdated(),
        state: format::state(&instance.status(), app.clock.now()),
        opens_at: app.certificates.ready_at(&instance.handle).map(Moment),
        why: why::why(&app.instances.ledger(instance), instance.is_up()),
        history: history.iter().map(Into::into).collect(),
        spend: super::spend::in_words(&spend),
        alerts: left::alerts_in_words(&alerts, &left),
        mail,
        shares: app.sharing.of(instance.id).len(),
        port: app.config.hosts.port.clone(),
        domains: app.domains.of(instance.id).into_iter().filter(Domain::is_proven).map(|domain| domain.name).collect(),
        ports,
        sessions: sessions.into_iter().map(Into::into).collect(),
        passkeys: passkeys.iter().map(Into::into).collect(),
        grace: format::span(app.config.containers.delete_after),
    })
}

impl From<&Transition> for HistoryRow {
    fn from(change: &Transition) -> Self {
        Self {
            at: Moment(change.at),
            lamp: format::lamp(change.to),
            to: format::headline(change.to),
            cause: format::cause(change.cause),
            last: change.last.map(why::last),
        }
    }
}

impl From<SessionView> for SessionRow {
    fn from(session: SessionView) -> Self {
        Self {
            id: session.id.to_string(),
            device: session.device,
            ip: session.ip,
            created: Moment(session.created_at),
            last_used: Moment(session.last_used_at),
            current: session.current,
        }
    }
}
