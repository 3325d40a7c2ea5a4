//! The instance API: the HTTP API that programs inside an instance call with the instance's own token.
//!
//! It is served on the same listener as the quota proxy, each bridge's gateway address, where only instances reach it.
//! Its paths and JSON are part of the instance contract (`instance-image/README.md`).

mod alarms;
mod budget;
mod jobs;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::Error;
use crate::http::instance_token::{TokenError, authenticate};
use crate::http::problem::Problem;
use crate::instances::{Instance, Wish};

/// The routes, to be merged with the quota proxy's.
pub fn router(app: App) -> Router {
    Router::new().merge(jobs::routes()).merge(alarms::routes()).merge(budget::routes()).with_state(app)
}

/// The instance that makes a request, authenticated by its token and its address.
struct CallingInstance(Arc<Instance>);

impl FromRequestParts<App> for CallingInstance {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, app)
            .await
            .map_err(|missing| Error::Internal(missing.into()))?;
        Ok(Self(authenticate(&app.instances, &parts.headers, peer)?))
    }
}

/// An error of this API: the response is problem+json (RFC 9457).
struct ApiError(Problem);

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        // No middleware logs errors on this listener, so the cause is logged where it becomes a response.
        if let Error::Internal(cause) = &error {
            tracing::error!(error = format!("{cause:#}"), "a request of the instance API failed");
        }
        Self(error.into())
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let forbidden = |sentence: &str| Error::Forbidden(sentence.into()).into();
        match error {
            TokenError::Invalid => Self(Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Not the instance",
                "This is not the token of the instance that called. Use the key from the instance's environment, from \
                 inside that instance.",
            )),
            TokenError::Closed { wish: Wish::Removed } => forbidden("The operator removed this instance."),
            TokenError::Closed { wish: Wish::Leaving } => forbidden("This account is scheduled for deletion."),
            TokenError::Closed { .. } => forbidden("This account is suspended. Ask the operator of this server why."),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.json("")
    }
}
