//! Caddy's question before it gets a certificate: is this name ours? Answered from memory, with an empty body; anything but
//! a live name is refused, so that nobody makes us ask a certificate authority for names we do not serve.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::handle::Handle;
use crate::hosts::Site;

#[derive(Deserialize)]
pub struct Asked {
    domain: String,
}

/// `GET /ask?domain=NAME`: 200 or 403.
pub async fn ask(State(app): State<App>, Query(asked): Query<Asked>) -> StatusCode {
    let live = match app.config.hosts.site(&asked.domain) {
        Some(Site::Apex | Site::App) => true,
        Some(Site::Instance(handle)) => is_live(&app, &handle),
        None => app.domains.entrance(&asked.domain).is_some_and(|entrance| is_live(&app, &entrance.handle)),
    };
    if live { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

fn is_live(app: &App, handle: &Handle) -> bool {
    app.instances.by_handle(handle).is_some_and(|instance| !instance.status().wish.is_closed())
}
