//! Caddy's question before it gets a certificate: is this name ours? Answered from memory, with an empty body; anything but
//! a live name is refused, so that nobody makes us ask a certificate authority for names we do not serve, and a new one is
//! refused for as long as the authority would refuse it.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::handle::Handle;
use crate::hosts::Site;
use crate::instances::Instance;
use crate::ops::AskOutcome;

#[derive(Deserialize)]
pub struct AskQuery {
    domain: String,
}

/// `GET /ask?domain=NAME`: 200 or 403.
pub async fn ask(State(app): State<App>, Query(asked): Query<AskQuery>) -> StatusCode {
    let outcome = answer(&app, &asked.domain);
    app.metrics.count_ask(outcome);
    if outcome == AskOutcome::Allowed { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

/// The grammar first, which costs nothing, then whose the name is, then whether a certificate is left for it. An owner's own
/// domain counts for itself: the week is of names below ours.
fn answer(app: &App, domain: &str) -> AskOutcome {
    match app.config.hosts.site(domain) {
        Some(Site::Apex | Site::App) => AskOutcome::Allowed,
        Some(Site::Instance(handle)) => match standing(app, &handle, |_| true) {
            AskOutcome::Allowed if !app.certificates.may_issue_now(&handle) => AskOutcome::Queued,
            outcome => outcome,
        },
        // One owner's sixteen would use up a week that everybody needs. Below a path they are reached without one.
        Some(Site::Port(..)) if app.certificates.are_counted() => AskOutcome::NotOurs,
        Some(Site::Port(handle, port)) => standing(app, &handle, |instance| instance.has_open(port)),
        None => app
            .domains
            .entrance(domain)
            .map_or(AskOutcome::NotOurs, |entrance| standing(app, &entrance.handle, |_| true)),
    }
}

/// Whether there is an instance of that name that has this `entrance`, and whether it may be visited.
fn standing(app: &App, handle: &Handle, entrance: impl Fn(&Instance) -> bool) -> AskOutcome {
    match app.instances.by_handle(handle).filter(|instance| entrance(instance)) {
        None => AskOutcome::Nobody,
        Some(instance) if instance.status().wish.is_closed() => AskOutcome::Closed,
        Some(_) => AskOutcome::Allowed,
    }
}
