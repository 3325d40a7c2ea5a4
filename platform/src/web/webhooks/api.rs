//! The owner's JSON API of webhooks and alarms.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use berth_ground::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::page::delivery_id;
use crate::alarms::MAX_ALARMS;
use crate::app::App;
use crate::http::alarm_view;
use crate::http::list::ListView;
use crate::http::problem::HandlerResult;
use crate::instances::Instance;
use crate::web::extractors::OwnInstance;
use crate::webhooks::{
    DeliveryId, DeliveryState, DeliveryView, MAX_DELIVERIES, MAX_INBOX_BYTES, MAX_PATHS, PathSuffix, WebhookPath,
};

/// Maximum number of deliveries on one page of the list.
const PAGE_SIZE: usize = 50;

/// `GET /api/webhooks`: the size of the inbox, and its limits.
pub async fn show(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<Value> {
    Json(json!({
        "stored": app.webhooks.counts(instance.id),
        "limits": { "paths": MAX_PATHS, "deliveries": MAX_DELIVERIES, "bytes": MAX_INBOX_BYTES },
    }))
}

/// `GET /api/webhooks/paths`: the open paths.
pub async fn paths(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<ListView<Value>> {
    let open = app.webhooks.paths(instance.id);
    Json(ListView::complete(open.iter().map(|open| path_view(&app, &instance, open)).collect(), MAX_PATHS))
}

#[derive(Deserialize)]
pub struct DeliveriesQuery {
    #[serde(default)]
    state: DeliveryStateQuery,
    /// The id of a delivery: those that arrived before it are listed. An id, because the sequence number counts the
    /// deliveries of all instances, which an owner must not learn.
    before: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeliveryStateQuery {
    #[default]
    Waiting,
    DeadLetter,
    Delivered,
}

/// `GET /api/webhooks/deliveries?state=STATE&before=ID`: the deliveries in that state, newest first. `STATE` is
/// `waiting`, `dead_letter` or `delivered`.
pub async fn deliveries(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Query(query): Query<DeliveriesQuery>,
) -> HandlerResult<Json<ListView<DeliveryView>>> {
    let state = match query.state {
        DeliveryStateQuery::Waiting => DeliveryState::Waiting,
        DeliveryStateQuery::DeadLetter => DeliveryState::DeadLetter,
        DeliveryStateQuery::Delivered => DeliveryState::Delivered,
    };
    // One more than a page holds tells whether another page follows.
    let limit = PAGE_SIZE as u64 + 1;
    let mut found = match query.before.as_deref().map(cursor).transpose()? {
        Some(before) => app.webhooks.deliveries_before(instance.id, state, before, limit).await?,
        None => app.webhooks.deliveries(instance.id, state, limit).await?,
    };
    let more = found.len() > PAGE_SIZE;
    found.truncate(PAGE_SIZE);
    let next = found.last().filter(|_| more).map(|last| {
        let state = state.as_str();
        format!("/api/webhooks/deliveries?state={state}&before={}", last.id)
    });
    Ok(Json(ListView::page(found, next)))
}

#[derive(Deserialize)]
pub struct OpenPathBody {
    path: String,
    #[serde(default)]
    unguessable: bool,
}

/// `POST /api/webhooks/paths` with `{"path", "unguessable"}`: 201, and the address to give to the sender.
pub async fn open(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(body): Json<OpenPathBody>,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    let suffix = if body.unguessable { PathSuffix::Unguessable } else { PathSuffix::None };
    let opened = app.webhooks.open_path(instance.id, &body.path, suffix).await?;
    Ok((StatusCode::CREATED, Json(path_view(&app, &instance, &opened))))
}

/// `DELETE /api/webhooks/paths/hooks/github` closes `/hooks/github`.
pub async fn close(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(path): Path<String>,
) -> HandlerResult<StatusCode> {
    // The route's parameter lacks the leading slash.
    app.webhooks.close_path(instance.id, &format!("/{path}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/webhooks/deliveries/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.webhooks.retry(instance.id, delivery_id(&id)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /api/webhooks/deliveries/{id}` discards a delivery.
pub async fn discard(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.webhooks.discard(instance.id, delivery_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/alarms`
pub async fn alarms(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<Json<ListView<Value>>> {
    let alarms = app.alarms.of(instance.id).await?.iter().map(alarm_view::view).collect();
    Ok(Json(ListView::complete(alarms, MAX_ALARMS)))
}

/// `DELETE /api/alarms/{name}`
pub async fn delete_alarm(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(name): Path<String>,
) -> HandlerResult<StatusCode> {
    app.alarms.delete(instance.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The delivery that a page begins after.
fn cursor(id: &str) -> Result<DeliveryId> {
    id.parse().map_err(|_| Error::invalid("before", "Write the id of a delivery, as in the list's items and its next."))
}

fn path_view(app: &App, instance: &Instance, open: &WebhookPath) -> Value {
    let url = format!("{}{}", app.config.hosts.instance_origin(&instance.handle), open.path);
    json!({ "path": open.path, "url": url, "opened_at": open.opened_at })
}
