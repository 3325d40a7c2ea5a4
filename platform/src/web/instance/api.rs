//! The account's own instance as JSON: state, wake, sleep, stop, upgrade.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::problem::HandlerResult;
use crate::instances::{Cause, Instance, Wish};
use crate::web::extractors::OwnInstance;

/// `GET /api/instance`
pub async fn instance(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<Value> {
    Json(view(&app, &instance))
}

/// `POST /api/instance/wake`: 202 with the current state; the wake continues in the background.
pub async fn wake(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    app.instances.wake(&instance, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/sleep`: 202 with the current state.
pub async fn sleep(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    app.instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/upgrade`: 202 with the current state. Requests in flight are drained first.
pub async fn upgrade(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    app.instances.upgrade(&instance).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/stop`: 202 with the current state. Also the remedy for a stuck instance.
pub async fn stop(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    app.instances.sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

fn view(app: &App, instance: &Instance) -> Value {
    let mut view = json!(instance.status());
    view["work"] = json!(app.instances.awake_report(instance));
    view["stuck"] = json!(instance.status().is_stuck(app.clock.now()));
    view["outdated"] = json!(instance.is_outdated());
    view["handle"] = json!(instance.handle);
    view["url"] = json!(app.config.hosts.instance_origin(&instance.handle));
    view
}
