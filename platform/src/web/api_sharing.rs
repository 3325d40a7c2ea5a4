//! What one opened of one's instance, for programs, in JSON.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extractors::Mine;
use super::sharing;
use crate::app::App;
use crate::http::problem::Answer;
use crate::instances::Instance;
use crate::sharing::{MOST_SHARES, Share};

/// `GET /api/shares`
pub async fn list(State(app): State<App>, Mine(instance): Mine) -> Json<Value> {
    let shares: Vec<Value> = app.sharing.of(instance.id).iter().map(|share| view(&app, &instance, share)).collect();
    Json(json!({ "shares": shares, "most": MOST_SHARES }))
}

#[derive(Deserialize)]
pub struct Asked {
    path: String,
    audience: String,
    #[serde(default)]
    handle: String,
    #[serde(default)]
    wakes: bool,
}

/// `POST /api/shares` with `{"path", "audience": "account", "handle"}`, `{"path", "audience": "signed_in"}` or
/// `{"path", "audience": "everyone", "wakes"}`: 201, and the share.
pub async fn add(
    State(app): State<App>,
    Mine(instance): Mine,
    Json(asked): Json<Asked>,
) -> Answer<(StatusCode, Json<Value>)> {
    let audience = sharing::audience(&asked.audience, &asked.handle, asked.wakes)?;
    let share = app.sharing.add(&instance, &asked.path, audience).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &instance, &share))))
}

/// `POST /api/shares/{id}/remove`
pub async fn remove(State(app): State<App>, Mine(instance): Mine, Path(id): Path<String>) -> Answer<StatusCode> {
    app.sharing.remove(&instance, sharing::share_id(&id)?, instance.handle.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, instance: &Instance, share: &Share) -> Value {
    let mut view = json!(share);
    view["url"] = json!(sharing::address(app, instance, share));
    view
}
