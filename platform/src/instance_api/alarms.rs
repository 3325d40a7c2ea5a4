//! The alarms endpoints: webhooks that an instance schedules for itself, once or by a cron pattern.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use berth_ground::clock::Timestamp;
use berth_ground::error::Error;
use serde::Deserialize;
use serde_json::Value;

use super::api_error::ApiError;
use super::calling_instance::CallingInstance;
use crate::alarms::{MAX_ALARMS, Schedule, moment};
use crate::app::App;
use crate::http::alarm_view::view;
use crate::http::list::ListView;
use crate::http::problem::Problem;

/// The largest request body, in bytes: an alarm is one line.
const MAX_BODY: usize = 4096;

const EXPECTED_BODY: &str = "An alarm is JSON of up to 4 KiB: {\"at\": \"2026-12-24T18:00:00Z\"} or {\"cron\": \"30 6 * * \
    MON-FRI\"}, and with either, if it shall be told, \"path\": \"/alarm\".";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/alarms", get(list))
        .route("/alarms/{name}", put(set).delete(delete))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmBody {
    at: Option<AlarmTime>,
    cron: Option<String>,
    path: Option<String>,
}

/// RFC 3339 text, or seconds since the Unix epoch.
#[derive(Deserialize)]
#[serde(untagged)]
enum AlarmTime {
    Seconds(i64),
    Text(String),
}

/// `GET /alarms`
async fn list(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
) -> Result<Json<ListView<Value>>, ApiError> {
    let alarms = app.alarms.of(instance.id).await?.iter().map(view).collect();
    Ok(Json(ListView::complete(alarms, MAX_ALARMS)))
}

/// `PUT /alarms/NAME`: sets the alarm, replacing one of the same name. Idempotent.
async fn set(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = body.map_err(|refused| Problem::new(refused.status(), "too_large", "Too large", EXPECTED_BODY))?;
    // Not axum's `Json` extractor: no content type is required, and the error describes an alarm.
    let body: AlarmBody = serde_json::from_slice(&body)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed", "Not understood", EXPECTED_BODY))?;
    let schedule = body.schedule()?;
    let alarm = app.alarms.set(instance.id, &name, schedule, body.path).await?;
    Ok(Json(view(&alarm)))
}

/// `DELETE /alarms/NAME`
async fn delete(
    State(app): State<App>,
    CallingInstance(instance): CallingInstance,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.alarms.delete(instance.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn method_not_allowed() -> ApiError {
    let detail = "GET /alarms lists them, PUT /alarms/NAME sets one, DELETE /alarms/NAME deletes one.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not possible here", detail).into()
}

impl AlarmBody {
    fn schedule(&self) -> Result<Schedule, Error> {
        match (&self.at, &self.cron) {
            (Some(AlarmTime::Seconds(seconds)), None) => Ok(Schedule::At(Timestamp(seconds.saturating_mul(1000)))),
            (Some(AlarmTime::Text(text)), None) => {
                let sentence = "A moment is written as 2026-12-24T18:00:00Z, or as a number of seconds since 1970.";
                moment(text).map(Schedule::At).ok_or_else(|| Error::invalid("at", sentence))
            }
            (None, Some(pattern)) => Ok(Schedule::Cron(pattern.clone())),
            _ => Err(Error::invalid("at", "An alarm has either at or cron.")),
        }
    }
}
