//! On-demand TLS: the `ask` endpoint, at which Caddy asks whether it may request a certificate for a host name.
//! Answered from memory; fails closed.
//!
//! Only names in use are allowed. Otherwise anyone could point DNS names at this server and exhaust the certificate
//! authority's rate limit. While that limit is exhausted, a new name is refused until its slot in the queue comes up.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use berth_ground::handle::Handle;
use berth_net::hosts::HostKind;
use serde::Deserialize;

use crate::app::App;
use crate::instances::Instance;
use crate::ops::AskOutcome;

#[derive(Deserialize)]
pub struct AskQuery {
    domain: String,
}

/// `GET /ask?domain=NAME`: 200 or 403, with an empty body.
pub async fn ask(State(app): State<App>, Query(query): Query<AskQuery>) -> StatusCode {
    let outcome = decide(&app, &query.domain);
    app.metrics.count_ask(outcome);
    if outcome == AskOutcome::Allowed { StatusCode::OK } else { StatusCode::FORBIDDEN }
}

fn decide(app: &App, domain: &str) -> AskOutcome {
    // The syntax is checked first because it needs no look-up: names that are probed at random seldom get further.
    match app.config.hosts.classify(domain) {
        Some(HostKind::Apex | HostKind::App) => AskOutcome::Allowed,
        Some(HostKind::Instance(handle)) => match is_served(app, &handle, |_| true) {
            AskOutcome::Allowed if !app.certificates.may_issue_now(&handle) => AskOutcome::Queued,
            outcome => outcome,
        },
        // Sixteen ports of one owner could exhaust everyone's weekly certificates. Where the authority has a rate
        // limit, ports are reached below a path of the instance's own host, which needs no further certificate.
        Some(HostKind::Port(..)) if app.certificates.are_counted() => AskOutcome::NotOurs,
        Some(HostKind::Port(handle, port)) => is_served(app, &handle, |instance| instance.has_open(port)),
        // A custom domain counts against its own registered domain's limit, so it never queues.
        None => app
            .domains
            .virtual_host(domain)
            .map_or(AskOutcome::NotOurs, |virtual_host| is_served(app, &virtual_host.handle, |_| true)),
    }
}

/// Whether the handle has an instance that serves this name and may be visited.
fn is_served(app: &App, handle: &Handle, serves_name: impl Fn(&Instance) -> bool) -> AskOutcome {
    match app.instances.by_handle(handle).filter(|instance| serves_name(instance)) {
        None => AskOutcome::Nobody,
        Some(instance) if instance.status().wish.is_closed() => AskOutcome::Closed,
        Some(_) => AskOutcome::Allowed,
    }
}
