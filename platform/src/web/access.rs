//! Authorization middleware: each row of the route table has an access level, enforced here before its handler runs.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::Error;
use berth_net::cookies;

use crate::accounts::{Role, Session};
use crate::app::App;
use crate::http::accept::wants_page;
use crate::http::problem::HandlerResult;

/// The access level of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLevel {
    /// Needs no cookie.
    Public,
    /// Needs the cookie of a sign-up in progress. `accounts` decides whether that sign-up is still valid.
    SigningUp,
    /// Needs the cookie of a log-in in progress. `accounts` decides whether that log-in is still valid.
    LoggingIn,
    /// Needs a session. Accepts an account that is scheduled for deletion.
    LoggedIn,
    /// Needs a session of an account that is not scheduled for deletion.
    Member,
    /// Needs a session with the operator's rights.
    Admin,
}

/// The state of [`enforce`] for one route.
#[derive(Clone)]
pub struct RouteGuard {
    pub app: App,
    pub access: AccessLevel,
}

/// Runs the handler with the [`Session`] as a request extension. A browser without access is redirected to the page
/// where it can get access; a program gets a problem response.
pub async fn enforce(
    State(RouteGuard { app, access }): State<RouteGuard>,
    mut request: Request,
    next: Next,
) -> HandlerResult {
    let pending = cookies::get(request.headers(), cookies::PENDING).is_some();
    match access {
        AccessLevel::Public => {}
        // Sign-up and log-in share one cookie: a browser is in one ceremony at a time.
        AccessLevel::SigningUp if pending => {}
        AccessLevel::SigningUp => return elsewhere(&request, "/sign-up", expired()),
        AccessLevel::LoggingIn if pending => {}
        AccessLevel::LoggingIn => return elsewhere(&request, "/log-in", expired()),
        AccessLevel::LoggedIn | AccessLevel::Member | AccessLevel::Admin => {
            match session(&app, request.headers()).await? {
                // Checked before the role: an operator loses the operator pages too once the deletion of the account is
                // scheduled.
                Some(session) if session.deletion_scheduled && access != AccessLevel::LoggedIn => {
                    let sentence = "This account is scheduled for deletion. Log in to Berth and cancel the deletion, then try again.";
                    return elsewhere(&request, "/account/deletion", Error::Forbidden(sentence.into()));
                }
                Some(session) if access == AccessLevel::Admin && session.role != Role::Admin => {
                    return Err(Error::Forbidden("This page is for the operator.".into()).into());
                }
                Some(session) => {
                    request.extensions_mut().insert(session);
                }
                None => return log_in_first(&request),
            }
        }
    }
    Ok(next.run(request).await)
}

/// The session that the cookie of the request identifies on the app host.
pub async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Session>, Error> {
    match cookies::get(headers, cookies::SESSION) {
        Some(token) => app.accounts.authenticate(&app.config.hosts.app, token).await,
        None => Ok(None),
    }
}

/// Whether the session of this request is still valid. The check does not count as use of the session, so a page that
/// is left open does not keep it alive.
pub async fn still_stands(app: &App, headers: &HeaderMap) -> bool {
    match cookies::get(headers, cookies::SESSION) {
        Some(token) => matches!(app.accounts.is_live(&app.config.hosts.app, token).await, Ok(true)),
        None => false,
    }
}

/// Redirects to the log-in page. The address of a hand-off becomes the return path, because its browser was on the way
/// to an instance.
fn log_in_first(request: &Request) -> HandlerResult {
    let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match super::return_path::ReturnPath::parse(asked) {
        Some(next) => elsewhere(request, &next.after("/log-in"), Error::Unauthenticated),
        None => elsewhere(request, "/log-in", Error::Unauthenticated),
    }
}

fn expired() -> Error {
    Error::Conflict("This page has expired. Please start again.".into())
}

fn elsewhere(request: &Request, path: &str, otherwise: Error) -> HandlerResult {
    if wants_page(request.uri().path(), request.headers()) {
        Ok(Redirect::to(path).into_response())
    } else {
        Err(otherwise.into())
    }
}
