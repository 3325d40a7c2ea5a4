//! The domains by which one's instance is entered as well, and what each still needs.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use super::extractors::Mine;
use crate::accounts::Session;
use crate::app::App;
use crate::domains::{Domain, DomainId, DomainState, MISSED_DAYS};
use crate::error::{Error, Result};
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::instances::Instance;

#[derive(Template)]
#[template(path = "dashboard/domains.html")]
pub struct DomainsPage {
    pub handle: String,
    pub is_admin: bool,
    /// What a domain may be an alias of.
    pub instance_host: String,
    /// Behind a host in an address: empty, or `:8443`.
    pub port: String,
    pub domains: Vec<DomainRow>,
    pub most: u32,
    pub typed: String,
    /// What is wrong with what was typed, empty when nothing is.
    pub note: String,
}

/// One domain.
pub struct DomainRow {
    pub id: String,
    pub name: String,
    pub lamp: &'static str,
    /// How it stands with it, in a sentence.
    pub state: String,
    pub proven: bool,
    pub checked: Option<Moment>,
    pub proof_name: String,
    pub proof: String,
    /// What came of looking it up just now, when nothing good did.
    pub note: String,
}

#[derive(Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    name: String,
}

/// `GET /domains`
pub async fn show(State(app): State<App>, session: Session, Mine(instance): Mine) -> Page<DomainsPage> {
    Page(page(&app, &session, &instance))
}

/// `POST /domains`
pub async fn claim(State(app): State<App>, session: Session, Mine(instance): Mine, Form(typed): Form<Typed>) -> Answer {
    match app.domains.claim(&instance, &typed.name).await {
        Ok(_) => Ok(Redirect::to("/domains").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let note = problem.detail.clone();
            Ok(problem.with(Page(DomainsPage { typed: typed.name, note, ..page(&app, &session, &instance) })))
        }
    }
}

/// `POST /domains/{id}/check`
pub async fn check(State(app): State<App>, session: Session, Mine(instance): Mine, Path(id): Path<String>) -> Answer {
    let id = domain_id(&id)?;
    let problem: Problem = match app.domains.check(&instance, id).await {
        Ok(_) => return Ok(Redirect::to("/domains").into_response()),
        Err(error @ Error::Unavailable { .. }) => error.into(),
        Err(error) => Problem::in_place(error)?,
    };
    let mut page = page(&app, &session, &instance);
    for domain in page.domains.iter_mut().filter(|domain| domain.id == id.to_string()) {
        domain.note.clone_from(&problem.detail);
    }
    Ok(problem.with(Page(page)))
}

/// `POST /domains/{id}/remove`
pub async fn remove(State(app): State<App>, Mine(instance): Mine, Path(id): Path<String>) -> Answer<Redirect> {
    app.domains.remove(&instance, domain_id(&id)?, instance.handle.as_str()).await?;
    Ok(Redirect::to("/domains"))
}

/// A domain's id as it stands in an address.
///
/// # Errors
/// `NotFound` for what is none.
pub fn domain_id(id: &str) -> Result<DomainId> {
    id.parse().map_err(|_| Error::NotFound)
}

fn page(app: &App, session: &Session, instance: &Instance) -> DomainsPage {
    DomainsPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        instance_host: app.config.hosts.instance_host(&instance.handle),
        port: app.config.hosts.port.clone(),
        domains: app.domains.of(instance.id).iter().map(Into::into).collect(),
        most: app.domains.per_account(),
        typed: String::new(),
        note: String::new(),
    }
}

impl From<&Domain> for DomainRow {
    fn from(domain: &Domain) -> Self {
        let (lamp, state) = match domain.state {
            DomainState::Claimed => ("moving", "not proven yet".to_owned()),
            DomainState::Proven { missed: 0, .. } => ("awake", "leads to your instance".to_owned()),
            DomainState::Proven { missed, .. } => {
                ("trouble", format!("leads to your instance; its proof is missing, day {missed} of {MISSED_DAYS}"))
            }
        };
        Self {
            id: domain.id.to_string(),
            name: domain.name.clone(),
            lamp,
            state,
            proven: domain.state != DomainState::Claimed,
            checked: domain.checked_at.map(Moment),
            proof_name: domain.proof_name(),
            proof: domain.proof.clone(),
            note: String::new(),
        }
    }
}
