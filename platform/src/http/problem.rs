//! Problem responses (RFC 9457): the one place where an error becomes a page for people or problem+json for programs.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use berth_ground::clock::Clock;
use berth_ground::error::Error;
use serde_json::json;

use super::accept::wants_page;

/// The result of a handler.
pub type HandlerResult<T = Response> = Result<T, Problem>;

/// An error response. As `IntoResponse` it has a status and no body; the middleware [`show`] adds the body in the
/// format that the request accepts.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// A stable identifier for programs: `not_found`, `too_many`, ..
    pub code: &'static str,
    /// A few words; the page's headline.
    pub title: &'static str,
    /// One or two sentences for the person.
    pub detail: String,
    /// The form or JSON field that caused the error.
    pub field: Option<&'static str>,
    retry_after: Option<Duration>,
    /// Logged once by [`show`], and never shown.
    source: Option<Arc<anyhow::Error>>,
}

impl Problem {
    /// A problem that does not come from a module's error.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), field: None, retry_after: None, source: None }
    }

    /// Adds Retry-After.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Turns an error that the user can correct into a problem shown beside the form. Other errors are returned as
    /// errors.
    pub fn in_place(error: Error) -> HandlerResult<Self> {
        match error {
            Error::Invalid { .. } | Error::Conflict(_) | Error::Forbidden(_) | Error::TooMany { .. } => {
                Ok(error.into())
            }
            Error::Unauthenticated => Ok(error.into()),
            // Correcting the form would not help against these.
            Error::NotFound | Error::Unavailable { .. } | Error::Internal(_) => Err(error.into()),
        }
    }

    /// A response with this problem's status and headers, and `body`.
    pub fn with(&self, body: impl IntoResponse) -> Response {
        let mut response = (self.status, body).into_response();
        if let Some(wait) = self.retry_after {
            // Zero seconds would invite a retry at once.
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }

    /// Renders the problem as a page. `request` is the id by which the operator finds the error in the log, or empty.
    #[must_use]
    pub fn page(&self, request: &str) -> Response {
        let status = self.status.as_u16();
        let page = ErrorPage { status, title: self.title, detail: &self.detail, request };
        // If the error page itself fails to render, its sentence is sent alone.
        self.with(Html(page.render().unwrap_or_else(|_| self.detail.clone())))
    }

    /// Renders the problem as problem+json, which looks the same in every HTTP layer. `request` is as in
    /// [`Problem::page`].
    #[must_use]
    pub fn json(&self, request: &str) -> Response {
        let mut body = json!({
            "type": format!("urn:berth:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if !request.is_empty() {
            body["instance"] = json!(format!("urn:uuid:{request}"));
        }
        if let Some(field) = self.field {
            body["errors"] = json!([{ "field": field, "detail": self.detail }]);
        }
        let mut response = self.with(Json(body));
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        response
    }

    /// The problem for an error status without a problem body, which axum's extractors return, mostly for an unreadable
    /// body.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "too_large", "Too large", "The request is larger than allowed.")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported", "Not understood", "This content type is not supported here.")
            }
            status if status.is_client_error() => {
                Self::new(status, "malformed", "Not understood", "The request is incomplete or malformed.")
            }
            _ => Error::Internal(anyhow::anyhow!("a response with status {status} and no reason")).into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code, title) = match &error {
            Error::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Error::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Please check your input"),
            Error::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Not possible"),
            Error::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "Please log in"),
            Error::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Error::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many attempts"),
            Error::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable"),
            Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong"),
        };
        let mut problem = Self::new(status, code, title, error.to_string());
        match error {
            Error::Invalid { field, .. } => problem.field = Some(field),
            Error::TooMany { retry_after, .. } | Error::Unavailable { retry_after, .. } => {
                problem.retry_after = Some(retry_after);
            }
            Error::Internal(source) => problem.source = Some(Arc::new(source)),
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The page of a problem.
#[derive(Template)]
#[template(path = "shared/error.html")]
pub struct ErrorPage<'a> {
    pub status: u16,
    pub title: &'a str,
    pub detail: &'a str,
    pub request: &'a str,
}

/// Middleware that renders a [`Problem`] as a page or as problem+json. It logs the error chain of an internal error,
/// once.
pub async fn show(State(clock): State<Clock>, request: Request, next: Next) -> Response {
    // Read before the handler consumes the request: errors are rendered on the way back.
    let page = wants_page(request.uri().path(), request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let Some(problem) = problem_in(&response) else { return response };
    // Only internal errors get an id: the others explain themselves.
    let mut id = String::new();
    if let Some(source) = &problem.source {
        id = clock.uuid().to_string();
        tracing::error!(request.id = %id, %method, path, error = format!("{source:#}"), "a request failed");
    }
    if page { problem.page(&id) } else { problem.json(&id) }
}

fn problem_in(response: &Response) -> Option<Problem> {
    // A handler's own problem is in the response's extensions.
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    // axum's rejections are text/plain; a form shown again with status 422 is HTML and stays as it is.
    let bare = kind.is_empty() || kind.starts_with(b"text/plain");
    ((status.is_client_error() || status.is_server_error()) && bare).then(|| Problem::of_status(status))
}

/// Fallback for unknown paths.
pub async fn not_found() -> Problem {
    Error::NotFound.into()
}

/// Fallback for known paths with another method.
pub async fn method_not_allowed() -> Problem {
    let detail = "This address does not support that method.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
}

/// Turns a panic into an internal error; the panic hook has logged where it happened.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::from(Error::Internal(anyhow::anyhow!("panicked: {text}"))).into_response()
}
