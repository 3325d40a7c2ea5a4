//! Shares as JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page;
use crate::app::App;
use crate::http::list::ListView;
use crate::http::problem::HandlerResult;
use crate::instances::Instance;
use crate::sharing::{MOST_SHARES, Share};
use crate::web::extractors::OwnInstance;

/// `GET /api/shares`
pub async fn list(State(app): State<App>, OwnInstance(instance): OwnInstance) -> Json<ListView<Value>> {
    let shares = app.sharing.of(instance.id).iter().map(|share| view(&app, &instance, share)).collect();
    Json(ListView::complete(shares, MOST_SHARES))
}

#[derive(Deserialize)]
pub struct ShareBody {
    path: String,
    audience: String,
    #[serde(default)]
    handle: String,
    #[serde(default)]
    wakes: bool,
}

/// `POST /api/shares` with `{"path", "audience": "account", "handle"}`, `{"path", "audience": "signed_in"}` or
/// `{"path", "audience": "everyone", "wakes"}`: 201 with the share.
pub async fn add(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Json(asked): Json<ShareBody>,
) -> HandlerResult<(StatusCode, Json<Value>)> {
    let audience = page::audience(&asked.audience, &asked.handle, asked.wakes)?;
    let share = app.sharing.add(&instance, &asked.path, audience).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &instance, &share))))
}

/// `DELETE /api/shares/{id}`
pub async fn remove(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<StatusCode> {
    app.sharing.remove(&instance, page::share_id(&id)?, instance.handle.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, instance: &Instance, share: &Share) -> Value {
    let mut view = json!(share);
    view["url"] = json!(page::address(app, instance, share));
    view
}
