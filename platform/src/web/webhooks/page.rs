//! The owner's page of webhooks and alarms: open paths, waiting and delivered webhooks, dead letters.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::{Error, Result};
use serde::Deserialize;

use super::alarms::AlarmRow;
use super::delivery_view::DeliveryRow;
use crate::accounts::Session;
use crate::app::App;
use crate::http::format::grouped;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Instance;
use crate::web::extractors::OwnInstance;
use crate::web::page_head::PageHead;
use crate::webhooks::{DeliveryId, DeliveryState, InboxCounts, MAX_PATHS, PathSuffix};

/// Maximum number of listed deliveries: of undelivered ones, which may need action, and of delivered ones, which only
/// show that delivery works.
const UNDELIVERED_LISTED: u64 = 50;
const DELIVERED_LISTED: u64 = 10;

#[derive(Template)]
#[template(path = "webhooks/webhooks.html")]
pub struct WebhooksPage {
    pub head: PageHead,
    /// The part of an address before the path.
    pub instance_origin: String,
    /// The path in the form; `note` holds the validation message for it.
    pub typed: String,
    pub note: String,
    pub paths: Vec<String>,
    pub max_paths: usize,
    pub may_open: bool,
    pub counts: InboxCounts,
    pub stored_kib: String,
    pub undelivered: Vec<DeliveryRow>,
    pub delivered: Vec<DeliveryRow>,
    pub alarms: Vec<AlarmRow>,
}

/// `GET /webhooks`
pub async fn show(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<Page<WebhooksPage>> {
    Ok(Page(page(&app, &session, &instance, OpenPathForm::default(), String::new()).await?))
}

#[derive(Default, Deserialize)]
pub struct OpenPathForm {
    #[serde(default)]
    path: String,
    /// The checkbox: `yes`, or absent.
    #[serde(default)]
    unguessable: String,
}

/// `POST /webhooks/paths`
pub async fn open(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Form(form): Form<OpenPathForm>,
) -> HandlerResult {
    let suffix = if form.unguessable == "yes" { PathSuffix::Unguessable } else { PathSuffix::None };
    match app.webhooks.open_path(instance.id, form.path.trim(), suffix).await {
        Ok(_) => Ok(Redirect::to("/webhooks").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &instance, form, problem.detail.clone()).await?;
            Ok(problem.with(Page(page)))
        }
    }
}

/// `POST /webhooks/paths/close`
pub async fn close(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Form(form): Form<OpenPathForm>,
) -> HandlerResult<Redirect> {
    app.webhooks.close_path(instance.id, &form.path).await?;
    Ok(Redirect::to("/webhooks"))
}

/// `POST /webhooks/deliveries/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.webhooks.retry(instance.id, delivery_id(&id)?).await?;
    Ok(Redirect::to("/webhooks#deliveries"))
}

/// `POST /webhooks/deliveries/{id}/discard`
pub async fn discard(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.webhooks.discard(instance.id, delivery_id(&id)?).await?;
    Ok(Redirect::to("/webhooks#deliveries"))
}

/// The id of a delivery from a path.
///
/// # Errors
/// `NotFound` for text that is not an id.
pub fn delivery_id(id: &str) -> Result<DeliveryId> {
    id.parse().map_err(|_| Error::NotFound)
}

async fn page(
    app: &App,
    session: &Session,
    instance: &Instance,
    form: OpenPathForm,
    note: String,
) -> Result<WebhooksPage> {
    let (waiting, dead_letters, delivered, alarms) = tokio::try_join!(
        app.webhooks.deliveries(instance.id, DeliveryState::Waiting, UNDELIVERED_LISTED),
        app.webhooks.deliveries(instance.id, DeliveryState::DeadLetter, UNDELIVERED_LISTED),
        app.webhooks.deliveries(instance.id, DeliveryState::Delivered, DELIVERED_LISTED),
        app.alarms.of(instance.id),
    )?;
    let paths: Vec<String> = app.webhooks.paths(instance.id).into_iter().map(|open| open.path).collect();
    let counts = app.webhooks.counts(instance.id);
    Ok(WebhooksPage {
        head: session.into(),
        instance_origin: app.config.hosts.instance_origin(&instance.handle),
        typed: form.path,
        note,
        may_open: paths.len() < MAX_PATHS,
        paths,
        max_paths: MAX_PATHS,
        stored_kib: grouped(i64::try_from(counts.bytes.div_ceil(1024)).unwrap_or(i64::MAX)),
        counts,
        undelivered: dead_letters.iter().chain(&waiting).map(Into::into).collect(),
        delivered: delivered.iter().map(Into::into).collect(),
        alarms: alarms.iter().map(Into::into).collect(),
    })
}
