//! The edge: the reverse proxy in front of all instances. It authorizes a request, wakes the instance and forwards the
//! request.
//!
//! A request passes these steps, each in a file of its own: `program` (port routing), `authorization` (the visitor and
//! their access), `in_flight` (concurrency limit), `passive_requests` (crawlers and prefetches), `wake`, `proxy`.

mod ask;
mod assertion;
mod authorization;
mod cross_origin;
mod hand_off;
mod in_flight;
mod intake_memory;
pub mod pages;
mod passive_requests;
mod program;
mod proxy;
mod refusal;
mod request_smuggling;
mod resolved_host;
mod state;
mod visit;
mod wake;
mod webhook_delivery;
mod webhook_intake;

use std::sync::Arc;
use std::time::Duration;

pub use ask::ask;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use berth_ground::error::Error;
use berth_net::hosts::VirtualHost;
use berth_net::peer::Client;
use program::Program;
use refusal::EdgeRefusal;
pub use request_smuggling::{check_strictly, refuse_cookie_bombs};
use resolved_host::ResolvedHost;
pub use state::Edge;
use visit::Visit;
use wake::WakeOutcome;
pub use webhook_delivery::WebhookDispatcher;

use crate::http::accept::opens_page;
use crate::instances::Work;
use crate::ops::EdgeOutcome;
use crate::sharing::Visitor;

/// Paths below this one on an instance's host belong to the edge and never reach the container.
const EDGE_PATHS: &str = "/.berth/";

impl Edge {
    /// Answers a request to `virtual_host`.
    pub async fn serve(self: &Arc<Self>, virtual_host: VirtualHost, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let opens_page = opens_page(&parts);
        match self.answer(virtual_host, parts, body).await {
            Ok(response) => response,
            Err(refusal) => {
                self.app.metrics.count_edge(EdgeOutcome::Refused);
                refusal.into_response(opens_page, &self.app.config.hosts)
            }
        }
    }

    // The branches that few requests take are boxed: hyper moves this future for every request, and its size is that of
    // the largest branch.
    async fn answer(
        self: &Arc<Self>,
        virtual_host: VirtualHost,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response, EdgeRefusal> {
        let instance = self.app.instances.by_handle(&virtual_host.handle).ok_or(EdgeRefusal::NoSuchInstance)?;
        if virtual_host.port.is_some_and(|port| !instance.has_open(port)) {
            return Err(EdgeRefusal::PortClosed);
        }
        let host = ResolvedHost { instance, virtual_host: Arc::new(virtual_host) };
        if let Some(path) = parts.uri.path().strip_prefix(EDGE_PATHS) {
            return Box::pin(self.serve_own_path(&host, path, &parts)).await;
        }
        if host.virtual_host.port.is_none() && self.is_webhook(&host.instance, &parts) {
            self.app.metrics.count_edge(EdgeOutcome::Webhook);
            let client = Client::from_headers(&parts.headers);
            return Ok(Box::pin(self.accept_webhook(&host.instance, parts, body, &client)).await);
        }
        // A closed port is reported only after authorization: whether a port is open is for its owner to know.
        let requested = Program::requested(&host.instance, &host.virtual_host, &mut parts.uri);
        let program = requested.as_ref().ok().and_then(Option::as_ref);
        let Some(visit) = self.authorize(&host, program, &parts).await? else {
            refusal::refuse_closed(host.instance.status().wish)?;
            return self.send_to_log_in(&host, &parts);
        };
        if requested?.is_none() {
            return Ok(program::redirect_with_slash(&parts.uri));
        }
        self.pass_on(visit, parts, body).await
    }

    /// Wakes the instance for an authorized request if need be, and forwards the request.
    async fn pass_on(&self, visit: Arc<Visit>, parts: Parts, body: Body) -> Result<Response, EdgeRefusal> {
        let instance = &visit.instance;
        let most = if visit.visitor == Visitor::Owner { in_flight::MOST } else { in_flight::MOST_WITH_VISITORS };
        let permit = self.in_flight.acquire(instance.id, most).ok_or_else(too_busy)?;
        let is_probe = !visit.counts_as_activity() || passive_requests::is_passive(&parts);
        let kind = if is_probe { Work::Probe } else { Work::Request };
        if is_probe && !instance.is_awake() {
            return Err(if visit.counts_as_activity() {
                EdgeRefusal::Asleep
            } else {
                EdgeRefusal::AsleepToVisitors(None)
            });
        }
        // Race with the reconciler: the work is counted before the state is checked. In the reverse order, a freeze
        // decided in between would not see this request. In this order the reconciler sees the work and thaws the
        // instance again.
        let work = instance.begin_work(kind);
        let delay = match self.ensure_awake(&visit, &parts).await? {
            WakeOutcome::Awake(delay) => delay,
            WakeOutcome::Waking(page) => {
                self.app.metrics.count_edge(EdgeOutcome::Waiting);
                return Ok(page);
            }
        };
        self.app.metrics.count_edge(EdgeOutcome::Forwarded);
        let mut response = self.forward(visit, work, permit, Request::from_parts(parts, body)).await?;
        if let Some(delay) = delay {
            delay.append_server_timing(response.headers_mut());
        }
        Ok(response)
    }

    async fn serve_own_path(
        self: &Arc<Self>,
        host: &ResolvedHost,
        path: &str,
        parts: &Parts,
    ) -> Result<Response, EdgeRefusal> {
        if parts.method != Method::GET {
            return Ok(StatusCode::METHOD_NOT_ALLOWED.into_response());
        }
        match path {
            "callback" => self.callback(host, parts, &Client::from_headers(&parts.headers)).await,
            "status" if self.visitor(host, &parts.headers).await? == Visitor::Owner => self.stream_status(host, parts),
            "status" => Err(EdgeRefusal::LogIn),
            path => match path.strip_prefix("assets/") {
                Some(asset) => Ok(crate::http::assets::serve(asset)),
                None => Err(EdgeRefusal::NotHere),
            },
        }
    }
}

fn too_busy() -> EdgeRefusal {
    let message = "This instance has too many requests and connections open. Close some, or try again in a moment.";
    EdgeRefusal::Ours(Error::Unavailable { message: message.into(), retry_after: Duration::from_secs(5) })
}
