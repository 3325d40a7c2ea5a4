//! The page of custom domains: the state of each, and the DNS record that proves it.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::{Error, Result};
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::domains::{Domain, DomainId, DomainState, MISSED_DAYS};
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Instance;
use crate::web::extractors::OwnInstance;
use crate::web::page_head::PageHead;

#[derive(Template)]
#[template(path = "domains/domains.html")]
pub struct DomainsPage {
    pub head: PageHead,
    /// The target for a CNAME record.
    pub instance_host: String,
    /// The port suffix of an address: empty, or `:8443`.
    pub port: String,
    pub domains: Vec<DomainRow>,
    pub most: u32,
    pub typed: String,
    /// The validation message of the form, or empty.
    pub note: String,
}

/// A domain in the list.
pub struct DomainRow {
    pub id: String,
    pub name: String,
    pub lamp: &'static str,
    /// The state as a phrase.
    pub state: String,
    pub proven: bool,
    pub checked: Option<Moment>,
    pub proof_name: String,
    pub proof: String,
    /// Why the check that was just made failed, or empty.
    pub note: String,
}

#[derive(Default, Deserialize)]
pub struct DomainForm {
    #[serde(default)]
    name: String,
}

/// `GET /domains`
pub async fn show(State(app): State<App>, session: Session, OwnInstance(instance): OwnInstance) -> Page<DomainsPage> {
    Page(page(&app, &session, &instance))
}

/// `POST /domains`
pub async fn claim(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Form(typed): Form<DomainForm>,
) -> HandlerResult {
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
pub async fn check(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult {
    let id = domain_id(&id)?;
    let problem: Problem = match app.domains.check(&instance, id).await {
        Ok(_) => return Ok(Redirect::to("/domains").into_response()),
        // A DNS timeout is shown beside the domain as well: the user can only retry.
        Err(error @ Error::Unavailable { .. }) => error.into(),
        Err(error) => Problem::in_place(error)?,
    };
    let mut page = page(&app, &session, &instance);
    // The reason is shown beside the domain that was checked, because the page has a form for each of them.
    for domain in page.domains.iter_mut().filter(|domain| domain.id == id.to_string()) {
        domain.note.clone_from(&problem.detail);
    }
    Ok(problem.with(Page(page)))
}

/// `POST /domains/{id}/remove`
pub async fn remove(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.domains.remove(&instance, domain_id(&id)?, instance.handle.as_str()).await?;
    Ok(Redirect::to("/domains"))
}

/// Parses a domain's id from a path.
///
/// # Errors
/// `NotFound` when the text is not an id.
pub fn domain_id(id: &str) -> Result<DomainId> {
    id.parse().map_err(|_| Error::NotFound)
}

fn page(app: &App, session: &Session, instance: &Instance) -> DomainsPage {
    DomainsPage {
        head: session.into(),
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
            DomainState::Claimed => ("moving", "not verified yet".to_owned()),
            // One failed recheck does not end a domain: its DNS may be broken for a day through no fault of the owner.
            DomainState::Proven { missed: 0, .. } => ("awake", "leads to your instance".to_owned()),
            DomainState::Proven { missed, .. } => {
                ("trouble", format!("leads to your instance; its DNS record is missing, day {missed} of {MISSED_DAYS}"))
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
