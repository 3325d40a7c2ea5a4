//! The dashboard: the instance's state, AI usage, sessions, passkeys, and a card for each further page.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::Result;
use serde::Deserialize;

use super::extractors::OwnInstance;
use super::instance::awake_view::{self, AwakeLine, AwakeView};
use super::instance::ports::{self, PortsView};
use super::passkeys::PasskeyRow;
use super::usage::budget_view::{self, BudgetAlertView};
use super::usage::usage_card::{self, UsageCardView};
use super::webhooks::card::{WebhooksCard, webhooks_card};
use crate::accounts::{Session, SessionView};
use crate::app::App;
use crate::domains::Domain;
use crate::http::format::{self, Moment, StateView};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::{Instance, Transition};
use crate::web::access::AccessLevel::Member;
use crate::web::page_head::PageHead;
use crate::web::route::{Route, get, post};

/// The routes of the dashboard and of its forms.
pub(super) fn routes() -> Vec<Route> {
    vec![get("/", Member, show), post("/instance/ports", Member, set_ports)]
}

/// How many state changes are listed.
const HISTORY: u64 = 8;

#[derive(Template)]
#[template(path = "dashboard/dashboard.html")]
pub struct DashboardPage {
    pub head: PageHead,
    pub instance_host: String,
    pub instance_origin: String,
    pub state: StateView,
    /// When the instance's address becomes reachable, if its certificate is queued.
    pub opens_at: Option<Moment>,
    /// Whether the container is outdated, so that an upgrade can be offered.
    pub outdated: bool,
    pub why: AwakeView,
    pub history: Vec<HistoryRow>,
    pub spend: UsageCardView,
    pub alerts: Vec<BudgetAlertView>,
    pub webhooks: WebhooksCard,
    /// The number of shares.
    pub shares: usize,
    /// The verified custom domains of the instance.
    pub domains: Vec<String>,
    /// The port suffix of an address: empty, or `:8443`.
    pub port: String,
    pub ports: PortsView,
    pub sessions: Vec<SessionRow>,
    pub passkeys: Vec<PasskeyRow>,
    /// The grace period of an account deletion: "7 days".
    pub grace: String,
}

/// A state change.
pub struct HistoryRow {
    pub at: Moment,
    pub lamp: &'static str,
    pub to: &'static str,
    pub cause: &'static str,
    /// The last work before the instance fell asleep.
    pub last: Option<AwakeLine>,
}

/// A session in the list of sessions.
pub struct SessionRow {
    pub id: String,
    pub device: String,
    pub ip: String,
    pub created: Moment,
    pub last_used: Moment,
    pub current: bool,
}

/// `GET /`
pub async fn show(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<Page<DashboardPage>> {
    let ports = ports::ports_view(&app, &instance);
    Ok(Page(page(&app, &session, &instance, ports).await?))
}

#[derive(Deserialize)]
pub struct PortsForm {
    #[serde(default)]
    ports: String,
}

/// `POST /instance/ports`. A refused form is shown again in place, on the dashboard.
pub async fn set_ports(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Form(typed): Form<PortsForm>,
) -> HandlerResult {
    match ports::open(&app, &instance, &typed.ports).await {
        Ok(()) => Ok(Redirect::to("/#ports").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            // The field keeps the refused text, while the list shows the ports that are open.
            let ports =
                PortsView { typed: typed.ports, note: problem.detail.clone(), ..ports::ports_view(&app, &instance) };
            let page = page(&app, &session, &instance, ports).await?;
            Ok(problem.with(Page(page)))
        }
    }
}

/// The dashboard around its form for ports.
async fn page(app: &App, session: &Session, instance: &Instance, ports: PortsView) -> Result<DashboardPage> {
    // The queries of all cards run concurrently on the read pool, so the page takes as long as the slowest.
    let (history, left, models, alerts, webhooks, sessions, passkeys) = tokio::try_join!(
        app.instances.history(instance.id, HISTORY),
        app.quota.reports.budget(session.account),
        app.quota.reports.models_this_month(session.account),
        app.quota.reports.alerts(session.account),
        webhooks_card(app, instance),
        app.accounts.sessions(session),
        app.accounts.passkeys(session),
    )?;
    Ok(DashboardPage {
        head: session.into(),
        instance_host: app.config.hosts.instance_host(&instance.handle),
        instance_origin: app.config.hosts.instance_origin(&instance.handle),
        outdated: instance.is_outdated(),
        state: format::state(&instance.status(), app.clock.now()),
        opens_at: app.certificates.ready_at(&instance.handle).map(Moment),
        why: awake_view::awake_view(&app.instances.awake_report(instance), instance.is_up()),
        history: history.iter().map(Into::into).collect(),
        spend: usage_card::usage_card(&left, &models),
        alerts: budget_view::budget_alert_views(&alerts, &left),
        webhooks,
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
            last: change.last.map(awake_view::last_work),
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
