//! What an instance says of itself, with its own token and from its own address: the jobs that keep it awake.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::caller::caller;
use super::problem;
use crate::app::App;
use crate::error::Error;
use crate::http::problem::{Problem, method_not_allowed};
use crate::instances::Wish;

/// A number of seconds in JSON, with room.
const BODY_BYTES: usize = 1024;

/// Its routes, to be merged with the quota proxy's, which is where an instance reaches the platform.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{name}", put(declare).delete(end))
        .method_not_allowed_fallback(async || method_not_allowed().await.json(""))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(app)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lasting {
    for_seconds: u64,
}

/// `GET /jobs`: what it declared and did not end. Asking is no work.
async fn list(State(app): State<App>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    let answer = async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        Ok(Json(json!({ "jobs": app.instances.jobs(&instance) })).into_response())
    };
    shown(answer.await)
}

/// `PUT /jobs/NAME` with `{"for_seconds": N}`: keeps the instance awake that long, or until it is ended.
async fn declare(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        let lasting: Lasting = serde_json::from_slice(&body).map_err(|_| {
            Error::invalid("for_seconds", "Send JSON that says how long at most, such as {\"for_seconds\": 600}.")
        })?;
        let job = app.instances.declare_job(&instance, &name, Duration::from_secs(lasting.for_seconds)).await?;
        Ok(Json(job).into_response())
    };
    shown(answer.await)
}

/// `DELETE /jobs/NAME`
async fn end(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let instance = caller(&app, &headers, peer).map_err(stranger)?;
        app.instances.end_job(&instance, &name).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    shown(answer.await)
}

fn stranger(problem: problem::Problem) -> Error {
    match problem {
        problem::Problem::MayNotCall { wish: Wish::Removed } => {
            Error::Forbidden("The operator removed this instance.".into())
        }
        problem::Problem::MayNotCall { .. } => {
            Error::Forbidden("This account is suspended. Ask the operator of this server why.".into())
        }
        _ => Error::Unauthenticated,
    }
}

fn shown(answer: Result<Response, Error>) -> Response {
    answer.unwrap_or_else(|error| {
        if let Error::Internal(cause) = &error {
            tracing::error!(error = format!("{cause:#}"), "what an instance said of itself could not be taken in");
        }
        match error {
            Error::Unauthenticated => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Not the instance",
                "This is not the token of the instance that called. Use the key from the instance's environment, from inside that instance.",
            ),
            error => error.into(),
        }
        .json("")
    })
}
