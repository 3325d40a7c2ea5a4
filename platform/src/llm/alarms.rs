//! The alarms that a program sets for its own instance, with its own token and from its own address.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::caller;
use super::problem;
use crate::alarms::{MAX_ALARMS, Schedule, moment};
use crate::app::App;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::alarm_view::view;
use crate::http::problem::Problem;
use crate::instances::Wish;

/// Largest request body: an alarm is a line.
const LARGEST_BODY: usize = 4096;

/// Its routes, to be merged with the quota proxy's, which is where an instance reaches the platform.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/alarms", get(list))
        .route("/alarms/{name}", put(set).delete(delete))
        .method_not_allowed_fallback(elsewhere)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(app)
}

/// An alarm as a program asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    at: Option<At>,
    cron: Option<String>,
    path: Option<String>,
}

/// RFC 3339, or seconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Seconds(i64),
    Text(String),
}

/// `GET /alarms`
async fn list(State(app): State<App>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    shown(async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        let alarms = app.alarms.of(instance.id).await.map_err(fault)?;
        let alarms: Vec<Value> = alarms.iter().map(view).collect();
        Ok(Json(json!({ "alarms": alarms, "most": MAX_ALARMS })).into_response())
    })
    .await
}

/// `PUT /alarms/NAME`: sets it, in the place of one that is called so already.
async fn set(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    shown(async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        let body = body.map_err(|refused| Problem::new(refused.status(), "too_large", "Too large", SHAPE))?;
        let asked: Asked = serde_json::from_slice(&body)
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed", "Not understood", SHAPE))?;
        let schedule = asked.schedule()?;
        let alarm = app.alarms.set(instance.id, &name, schedule, asked.path).await.map_err(fault)?;
        Ok(Json(view(&alarm)).into_response())
    })
    .await
}

/// `DELETE /alarms/NAME`
async fn delete(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    shown(async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        app.alarms.delete(instance.id, &name).await.map_err(fault)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

async fn elsewhere() -> Response {
    let detail = "GET /alarms lists them, PUT /alarms/NAME sets one, DELETE /alarms/NAME deletes one.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not possible here", detail).json("")
}

const SHAPE: &str = "An alarm is JSON of up to 4 KiB: {\"at\": \"2026-12-24T18:00:00Z\"} or {\"cron\": \"30 6 * * MON-FRI\"}, and \
    with either, if it shall be told, \"path\": \"/alarm\".";

impl Asked {
    fn schedule(&self) -> Result<Schedule, Problem> {
        match (&self.at, &self.cron) {
            (Some(At::Seconds(seconds)), None) => Ok(Schedule::At(Timestamp(seconds.saturating_mul(1000)))),
            (Some(At::Text(text)), None) => {
                let sentence = "A moment is written as 2026-12-24T18:00:00Z, or as a number of seconds since 1970.";
                moment(text).map(Schedule::At).ok_or_else(|| Error::invalid("at", sentence).into())
            }
            (None, Some(pattern)) => Ok(Schedule::Cron(pattern.clone())),
            _ => Err(Error::invalid("at", "An alarm has either at or cron.").into()),
        }
    }
}

fn stranger(problem: problem::Problem) -> Problem {
    match problem {
        problem::Problem::MayNotCall { wish: Wish::Removed } => {
            Error::Forbidden("The operator removed this instance, so no alarm of it rings.".into()).into()
        }
        problem::Problem::MayNotCall { .. } => {
            let sentence = "This account is suspended, so no alarm of it rings. Ask the operator of this server why.";
            Error::Forbidden(sentence.into()).into()
        }
        _ => Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Not the instance",
            "This is not the token of the instance that called. Use the key from the instance's environment, from inside that instance.",
        ),
    }
}

/// A fault of ours is logged here, where it stops.
fn fault(error: Error) -> Problem {
    if let Error::Internal(cause) = &error {
        tracing::error!(error = format!("{cause:#}"), "an alarm could not be looked after");
    }
    error.into()
}

async fn shown(answer: impl Future<Output = Result<Response, Problem>>) -> Response {
    answer.await.unwrap_or_else(|problem| problem.json(""))
}
