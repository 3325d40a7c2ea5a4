//! Session revocation from the list on the dashboard.

use axum::extract::{Path, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};
use berth_ground::error::Error;

use super::cookies;
use crate::accounts::Session;
use crate::app::App;
use crate::db::SessionId;
use crate::http::problem::HandlerResult;
use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, post};

/// The route of sessions.
pub(super) fn routes() -> Vec<Route> {
    vec![post("/sessions/{id}/end", Member, end)]
}

/// `POST /sessions/{id}/end`. Ending the current session logs out.
pub async fn end(State(app): State<App>, session: Session, Path(id): Path<String>) -> HandlerResult {
    let id: SessionId = id.parse().map_err(|_| Error::NotFound)?;
    // Otherwise the browser would keep an invalid cookie.
    if id == session.id {
        app.accounts.log_out(&session).await?;
        let gone = AppendHeaders([cookies::logged_out()]);
        return Ok((gone, Redirect::to("/log-in")).into_response());
    }
    app.accounts.session_end(&session, id).await?;
    Ok(Redirect::to("/#sessions").into_response())
}
