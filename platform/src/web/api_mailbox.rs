//! The mailbox and the alarms for programs, in JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extractors::OwnInstance;
use super::mailbox;
use crate::alarms::MOST_ALARMS;
use crate::app::App;
use crate::http::alarm_view;
use crate::http::problem::HandlerResult;
use crate::instances::Instance;
use crate::mailbox::{Ending, MOST_BYTES, MOST_LETTERS, MOST_PATHS, OpenPath, State as Standing};

/// How many letters are listed in each state.
const LISTED: u64 = 50;

/// `GET /api/mailbox`: open paths, how much is kept and may be, and the newest letters in each state.
pub async fn show(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Json<Value>> {
    let letters = |state| app.mailbox.letters(instance.id, state, LISTED);
    let (waiting, failed, delivered) =
        tokio::try_join!(letters(Standing::Waiting), letters(Standing::Failed), letters(Standing::Delivered))?;
    let paths: Vec<Value> =
        app.mailbox.paths(instance.id).iter().map(|open| path_view(&app, &instance, open)).collect();
    Ok(Json(json!({
        "paths": paths,
        "kept": app.mailbox.counts(instance.id),
        "most": { "paths": MOST_PATHS, "letters": MOST_LETTERS, "bytes": MOST_BYTES },
        "waiting": waiting,
        "failed": failed,
        "delivered": delivered,
    })))
}

#[derive(Deserialize)]
pub struct Asked {
    path: String,
    #[serde(default)]
    unguessable: bool,
}

/// `POST /api/mailbox/paths` with `{"path", "unguessable"}`: 201, and the address to give to whoever sends.
pub async fn open(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(asked): Json<Asked>,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    let ending = if asked.unguessable { Ending::Unguessable } else { Ending::AsItIs };
    let opened = app.mailbox.open_path(instance.id, &asked.path, ending).await?;
    Ok((StatusCode::CREATED, Json(path_view(&app, &instance, &opened))))
}

/// `POST /api/mailbox/paths/close` with `{"path"}`.
pub async fn close(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(asked): Json<Asked>,
) -> HandlerResult<StatusCode> {
    app.mailbox.close_path(instance.id, &asked.path).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/mailbox/letters/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.mailbox.retry(instance.id, mailbox::letter(&id)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/mailbox/letters/{id}/discard`
pub async fn discard(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.mailbox.discard(instance.id, mailbox::letter(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/alarms`
pub async fn alarms(State(app): State<App>, OwnInstance(instance): OwnInstance) -> HandlerResult<Json<Value>> {
    let set: Vec<Value> = app.alarms.of(instance.id).await?.iter().map(alarm_view::view).collect();
    Ok(Json(json!({ "alarms": set, "most": MOST_ALARMS })))
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

fn path_view(app: &App, instance: &Instance, open: &OpenPath) -> Value {
    let url = format!("{}{}", app.config.hosts.instance_origin(&instance.handle), open.path);
    json!({ "path": open.path, "url": url, "opened_at": open.opened_at })
}
