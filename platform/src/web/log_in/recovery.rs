//! Account recovery with a recovery code and a one-time code.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use crate::accounts::Client;
use crate::app::App;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::web::cookies;

#[derive(Template)]
#[template(path = "log_in/recover.html")]
pub struct RecoveryPage {
    pub handle: String,
    pub note: String,
    /// The name of the field that `note` is about, or empty.
    pub field: String,
}

#[derive(Deserialize)]
pub struct RecoveryForm {
    #[serde(default)]
    handle: String,
    #[serde(default)]
    recovery_code: String,
    #[serde(default)]
    code: String,
}

/// `GET /recover`
pub async fn recover() -> Page<RecoveryPage> {
    Page(RecoveryPage { handle: String::new(), note: String::new(), field: String::new() })
}

/// `POST /recover`. Success leads to the passkeys page, because the old passkey is lost.
pub async fn recover_with_code(
    State(app): State<App>,
    client: Client,
    Form(form): Form<RecoveryForm>,
) -> HandlerResult {
    let (handle, code) = (form.handle.trim(), form.code.trim());
    match app.accounts.recover(handle, form.recovery_code.trim(), code, &client).await {
        Ok(signed_in) => Ok((cookies::signed_in(&signed_in), Redirect::to("/passkeys?recovered=yes")).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            // `accounts` names no field when it refuses, so that the response does not tell which of the three was
            // wrong.
            let field = problem.field.unwrap_or_default().to_owned();
            Ok(problem.with(Page(RecoveryPage { handle: form.handle, note: problem.detail.clone(), field })))
        }
    }
}
