//! The owner's JSON API of webhooks and alarms.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extractors::OwnInstance;
use super::webhooks;
use crate::alarms::MAX_ALARMS;
use crate::app::App;
use crate::http::alarm_view;
use crate::http::problem::HandlerResult;
use crate::instances::Instance;
use crate::webhooks::{DeliveryState, MAX_DELIVERIES, MAX_INBOX_BYTES, MAX_PATHS, PathSuffix, WebhookPath};

/// How many deliveries are listed in each state.
const LISTED: u64 = 50;

/// `GET /api/webhooks`: open paths, the size of the inbox and its limits, and the newest deliveries in each state.
pub async fn show(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Json<Value>> {
    let deliveries = |state| app.webhooks.deliveries(instance.id, state, LISTED);
    let (waiting, dead_letters, delivered) = tokio::try_join!(
        deliveries(DeliveryState::Waiting),
        deliveries(DeliveryState::DeadLetter),
        deliveries(DeliveryState::Delivered)
    )?;
    let paths: Vec<Value> =
        app.webhooks.paths(instance.id).iter().map(|open| path_view(&app, &instance, open)).collect();
    Ok(Json(json!({
        "paths": paths,
        "stored": app.webhooks.counts(instance.id),
        "limits": { "paths": MAX_PATHS, "deliveries": MAX_DELIVERIES, "bytes": MAX_INBOX_BYTES },
        "waiting": waiting,
        "dead_letters": dead_letters,
        "delivered": delivered,
    })))
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

/// `POST /api/webhooks/paths/close` with `{"path"}`.
pub async fn close(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(body): Json<OpenPathBody>,
) -> HandlerResult<StatusCode> {
    app.webhooks.close_path(instance.id, &body.path).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/webhooks/deliveries/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.webhooks.retry(instance.id, webhooks::delivery_id(&id)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/webhooks/deliveries/{id}/discard`
pub async fn discard(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.webhooks.discard(instance.id, webhooks::delivery_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/alarms`
pub async fn alarms(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Json<Value>> {
    let set: Vec<Value> = app.alarms.of(instance.id).await?.iter().map(alarm_view::view).collect();
    Ok(Json(json!({ "alarms": set, "most": MAX_ALARMS })))
}

/// `POST /api/alarms/{name}/delete`
pub async fn delete_alarm(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(name): Path<String>,
) -> HandlerResult<StatusCode> {
    app.alarms.delete(instance.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn path_view(app: &App, instance: &Instance, open: &WebhookPath) -> Value {
    let url = format!("{}{}", app.config.hosts.instance_origin(&instance.handle), open.path);
    json!({ "path": open.path, "url": url, "opened_at": open.opened_at })
}
