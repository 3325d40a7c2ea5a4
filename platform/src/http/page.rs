//! HTML responses: an askama template, rendered when the response is built.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use berth_ground::error::Error;

use super::problem::Problem;

/// Renders a template. A template that fails to render is an internal error.
pub struct Page<T>(pub T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            // Rendered into a string before the status is sent, so that a failure can still become an error page.
            Ok(html) => Html(html).into_response(),
            Err(error) => Problem::from(Error::Internal(error.into())).into_response(),
        }
    }
}
