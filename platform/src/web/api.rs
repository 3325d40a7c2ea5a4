//! The same for programs, in JSON. Errors are RFC 9457 problems.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::extractors::{Mine, Pending};
use super::sign_up;
use crate::accounts::Session;
use crate::app::App;
use crate::http::problem::Answer;
use crate::instances::{Cause, Instance, Wish};

/// `GET /api/account`
pub async fn account(State(app): State<App>, session: Session) -> Answer<Json<Value>> {
    let account = app.accounts.account(&session.handle).await?;
    Ok(Json(json!({
        "handle": account.handle,
        "role": account.role,
        "passkeys": account.passkeys,
        "recovery_codes_left": account.recovery_codes_left,
        "created_at": account.created_at,
        "instance_url": app.config.hosts.instance_origin(&account.handle),
    })))
}

/// `GET /api/instance`
pub async fn instance(State(app): State<App>, Mine(instance): Mine) -> Json<Value> {
    Json(view(&app, &instance))
}

/// `POST /api/instance/wake`: 202, and the state as it is now; the wake goes on.
pub async fn wake(State(app): State<App>, Mine(instance): Mine) -> Answer<(StatusCode, Json<Value>)> {
    app.instances.wake(&instance, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/sleep`: 202, and the state as it is now.
pub async fn sleep(State(app): State<App>, Mine(instance): Mine) -> Answer<(StatusCode, Json<Value>)> {
    app.instances.sleep(&instance, Wish::Frozen, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/upgrade`: 202, and the state as it is now; what is in flight ends first.
pub async fn upgrade(State(app): State<App>, Mine(instance): Mine) -> Answer<(StatusCode, Json<Value>)> {
    app.instances.upgrade(&instance).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `POST /api/instance/stop`: 202, and the state as it is now. Frees one that is stuck.
pub async fn stop(State(app): State<App>, Mine(instance): Mine) -> Answer<(StatusCode, Json<Value>)> {
    app.instances.sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &instance))))
}

/// `GET /api/handles/{handle}`: whether it can be claimed. `note` is a sentence for the person who typed it.
pub async fn handle(
    State(app): State<App>,
    pending: Option<Pending>,
    Path(typed): Path<String>,
) -> Answer<Json<Value>> {
    let availability = app.accounts.handle_availability(&typed).await?;
    let held = sign_up::held(&app, pending.as_ref()).await;
    let (verdict, note, suggestions) = sign_up::in_words(&typed, availability, held.as_ref());
    Ok(Json(json!({ "available": verdict == "free", "note": note, "suggestions": suggestions })))
}

fn view(app: &App, instance: &Instance) -> Value {
    let mut view = json!(instance.status());
    view["work"] = json!(app.instances.ledger(instance));
    view["stuck"] = json!(instance.status().is_stuck(app.clock.now()));
    view["outdated"] = json!(instance.is_outdated());
    view["handle"] = json!(instance.handle);
    view["url"] = json!(app.config.hosts.instance_origin(&instance.handle));
    view
}
