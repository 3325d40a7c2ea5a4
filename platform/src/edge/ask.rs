//! Caddy's question before it gets a certificate: is this name ours? Answered from memory, with an empty body; anything but
//! a live name is refused, so that nobody makes us ask a certificate authority for names we do not serve.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::hosts::Site;
use crate::instances::Instance;

#[derive(Deserialize)]
pub struct Asked {
    domain: String,
}

/// `GET /ask?domain=NAME`: 200 or 403.
pub async fn ask(State(app): State<App>, Query(asked): Query<Asked>) -> StatusCode {
    let live = match app.config.hosts.site(&asked.domain) {
        Some(Site::Apex | Site::App) => true,
        Some(Site::Instance(handle)) => app.instances.by_handle(&handle).is_some_and(|instance| is_open(&instance)),
        Some(Site::Port(handle, port)) => {
            app.instances.by_handle(&handle).is_some_and(|instance| is_open(&instance) && instance.has_open(port))
        }
        None => false,
    };
    if live { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

fn is_open(instance: &Instance) -> bool {
    !instance.status().wish.is_closed()
}
