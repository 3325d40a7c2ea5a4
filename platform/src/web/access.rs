//! Who may come in by which route. The level stands in the route table and is enforced here, before any handler runs.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect};

use crate::accounts::{Role, Session};
use crate::app::App;
use crate::cookies;
use crate::error::Error;
use crate::http::accept::wants_page;
use crate::http::problem::Answer;

/// The access level of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// A browser that began to sign up. Whether that is still good is for `accounts` to say.
    SigningUp,
    /// A browser that began to log in. Whether that is still good is for `accounts` to say.
    HalfIn,
    /// Somebody logged in, also one whose account leaves.
    LoggedIn,
    /// Somebody logged in whose account stays.
    Member,
    /// Somebody logged in who has the operator's rights.
    Admin,
}

/// Lets the request through with its [`Session`] attached, sends people to where they can get in, refuses programs.
pub async fn enforce(State((app, access)): State<(App, Access)>, mut request: Request, next: Next) -> Answer {
    let pending = cookies::get(request.headers(), cookies::PENDING).is_some();
    match access {
        Access::Public => {}
        Access::SigningUp if pending => {}
        Access::SigningUp => return elsewhere(&request, "/sign-up", expired()),
        Access::HalfIn if pending => {}
        Access::HalfIn => return elsewhere(&request, "/log-in", expired()),
        Access::LoggedIn | Access::Member | Access::Admin => match session(&app, request.headers()).await? {
            Some(session) if session.deletion_scheduled && access != Access::LoggedIn => {
                let sentence = "This account leaves. Log in to Berth and keep it, then try again.";
                return elsewhere(&request, "/leaving", Error::Forbidden(sentence.into()));
            }
            Some(session) if access == Access::Admin && session.role != Role::Admin => {
                return Err(Error::Forbidden("This page is for the operator.".into()).into());
            }
            Some(session) => {
                request.extensions_mut().insert(session);
            }
            None => return log_in_first(&request),
        },
    }
    Ok(next.run(request).await)
}

/// Whoever holds the session cookie of this request on the app host.
pub async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Session>, Error> {
    match cookies::get(headers, cookies::SESSION) {
        Some(token) => app.accounts.authenticate(&app.config.hosts.app, token).await,
        None => Ok(None),
    }
}

/// Whether the session of this request still stands. Asking is no use of it.
pub async fn still_stands(app: &App, headers: &HeaderMap) -> bool {
    match cookies::get(headers, cookies::SESSION) {
        Some(token) => matches!(app.accounts.is_live(&app.config.hosts.app, token).await, Ok(true)),
        None => false,
    }
}

/// To the log-in page; from a hand-off with the way back, because there somebody was on the way to an instance.
fn log_in_first(request: &Request) -> Answer {
    let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match super::log_in::Next::parse(asked) {
        Some(next) => elsewhere(request, &next.after("/log-in"), Error::Unauthenticated),
        None => elsewhere(request, "/log-in", Error::Unauthenticated),
    }
}

fn expired() -> Error {
    Error::Conflict("This page has expired. Please start again.".into())
}

fn elsewhere(request: &Request, path: &str, otherwise: Error) -> Answer {
    if wants_page(request.uri().path(), request.headers()) {
        Ok(Redirect::to(path).into_response())
    } else {
        Err(otherwise.into())
    }
}
