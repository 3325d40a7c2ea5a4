//! The jobs endpoints: an instance declares a job that keeps it awake while a program of its own runs.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use berth_ground::error::Error;
use bytes::Bytes;
use serde::Deserialize;

use super::api_error::ApiError;
use super::calling_instance::CallingInstance;
use crate::app::App;
use crate::http::list::ListView;
use crate::http::problem::method_not_allowed;
use crate::instances::{DeclaredJob, MAX_JOBS};

/// The largest request body, in bytes: JSON with one number.
const MAX_BODY: usize = 1024;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{name}", put(declare).delete(end))
        .method_not_allowed_fallback(async || ApiError(method_not_allowed().await))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobBody {
    for_seconds: u64,
}

/// `GET /jobs`: the jobs that have not ended. The request itself does not keep the instance awake.
async fn list(State(app): State<App>, CallingInstance(instance): CallingInstance) -> Json<ListView<DeclaredJob>> {
    Json(ListView::complete(app.instances.jobs(&instance), MAX_JOBS))
}

/// `PUT /jobs/NAME` with `{"for_seconds": N}`: keeps the instance awake for at most that long, or until the job ends.
async fn declare(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<DeclaredJob>, ApiError> {
    // Not axum's `Json` extractor: programs need not send a content type.
    let body: JobBody = serde_json::from_slice(&body).map_err(|_| {
        Error::invalid("for_seconds", "Send JSON that says how long at most, such as {\"for_seconds\": 600}.")
    })?;
    Ok(Json(app.instances.declare_job(&instance, &name, Duration::from_secs(body.for_seconds)).await?))
}

/// `DELETE /jobs/NAME`
async fn end(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.instances.end_job(&instance, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
