//! Errors of the instance API as problem responses.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use berth_ground::error::Error;

use crate::http::instance_token::TokenError;
use crate::http::problem::Problem;
use crate::instances::Wish;

/// An error of this API: the response is problem+json (RFC 9457).
pub(super) struct ApiError(pub(super) Problem);

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
