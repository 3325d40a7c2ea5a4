//! The places where one is logged in.

use axum::extract::{Path, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect};

use super::cookies;
use crate::accounts::Session;
use crate::app::App;
use crate::db::SessionId;
use crate::error::Error;
use crate::http::problem::Answer;

/// `POST /sessions/{id}/end`. Ending the one that asks is logging out.
pub async fn end(State(app): State<App>, session: Session, Path(id): Path<String>) -> Answer {
    let id: SessionId = id.parse().map_err(|_| Error::NotFound)?;
    if id == session.id {
        app.accounts.log_out(&session).await?;
        let gone = AppendHeaders([cookies::logged_out()]);
        return Ok((gone, Redirect::to("/log-in")).into_response());
    }
    app.accounts.session_end(&session, id).await?;
    Ok(Redirect::to("/#sessions").into_response())
}
