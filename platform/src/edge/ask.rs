//! Caddy's question before it gets a certificate: is this name ours? Answered from memory, with an empty body; anything but
//! a live name is refused, so that nobody makes us ask a certificate authority for names we do not serve, and a new one is
//! refused for as long as the authority would refuse it.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::hosts::Site;
use crate::ops::AskOutcome;

#[derive(Deserialize)]
pub struct Asked {
    domain: String,
}

/// `GET /ask?domain=NAME`: 200 or 403.
pub async fn ask(State(app): State<App>, Query(asked): Query<Asked>) -> StatusCode {
    let outcome = answer(&app, &asked.domain);
    app.metrics.count_ask(outcome);
    if outcome == AskOutcome::Allowed { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

/// The grammar first, which costs nothing, then whose the name is, then whether a certificate is left for it.
fn answer(app: &App, domain: &str) -> AskOutcome {
    let handle = match app.config.hosts.site(domain) {
        Some(Site::Apex | Site::App) => return AskOutcome::Allowed,
        Some(Site::Instance(handle)) => handle,
        None => return AskOutcome::NotOurs,
    };
    match app.instances.by_handle(&handle) {
        None => AskOutcome::Nobody,
        Some(instance) if instance.status().wish.is_closed() => AskOutcome::Closed,
        Some(_) if app.certificates.may_have_one(&handle) => AskOutcome::Allowed,
        Some(_) => AskOutcome::Queued,
    }
}
