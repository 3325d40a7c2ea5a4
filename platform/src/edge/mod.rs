//! The door to instances: whose is it, may this request pass, is it awake, and then through, byte for byte.

mod ask;
mod assertion;
mod authorization;
mod cross_origin;
mod hand_off;
mod in_flight;
pub mod pages;
mod passive_requests;
mod program;
mod proxy;
mod refusal;
mod request_smuggling;
mod visit;
mod wake;
mod webhook_delivery;
mod webhook_intake;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub use ask::ask;
use assertion::AssertionCache;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use in_flight::InFlightLimit;
use program::Program;
use proxy::ConnectionPool;
use refusal::EdgeRefusal;
pub use request_smuggling::{read_strictly, refuse_cookie_bombs};
use wake::WakeOutcome;
pub use webhook_delivery::WebhookDispatcher;
use webhook_intake::IntakeMemory;

use crate::app::App;
use crate::client::Client;
use crate::error::Error;
use crate::hosts::Entrance;
use crate::http::accept::accepts_html;
use crate::instances::{Instance, Work};
use crate::ops::EdgeOutcome;
use crate::sharing::Visitor;

/// Everything below this path on an instance's host is the edge's own and never reaches the container.
const OURS: &str = "/.berth/";

/// The edge of this platform. Cheap to clone: every request holds it to its end.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

/// What it works with.
pub struct Inner {
    app: App,
    upstreams: ConnectionPool,
    places: InFlightLimit,
    intake_memory: IntakeMemory,
    assertions: AssertionCache,
}

impl Deref for Edge {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// An instance, and the entrance at which somebody called.
#[derive(Clone)]
struct ResolvedHost {
    instance: Arc<Instance>,
    entrance: Arc<Entrance>,
}

impl Edge {
    /// The edge of this platform.
    #[must_use]
    pub fn new(app: App) -> Self {
        let upstreams = ConnectionPool::new(app.instances.clone(), app.clock.clone());
        let (places, intake_memory) = (InFlightLimit::default(), IntakeMemory::default());
        Self(Arc::new(Inner { app, upstreams, places, intake_memory, assertions: AssertionCache::default() }))
    }

    /// Answers a request that came by `entrance`.
    pub async fn serve(&self, entrance: Entrance, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let opens_page = opens_page(&parts);
        match self.pass(entrance, parts, body).await {
            Ok(response) => response,
            Err(refusal) => {
                self.app.metrics.count_edge(EdgeOutcome::Refused);
                refusal.into_response(opens_page, &self.app.config.hosts)
            }
        }
    }

    /// What few requests need is boxed: hyper moves the future of each.
    async fn pass(&self, entrance: Entrance, mut parts: Parts, body: Body) -> Result<Response, EdgeRefusal> {
        let instance = self.app.instances.by_handle(&entrance.handle).ok_or(EdgeRefusal::NoSuchInstance)?;
        if entrance.port.is_some_and(|port| !instance.has_open(port)) {
            return Err(EdgeRefusal::PortClosed);
        }
        let called = ResolvedHost { instance, entrance: Arc::new(entrance) };
        if let Some(path) = parts.uri.path().strip_prefix(OURS) {
            return Box::pin(self.ours(&called, path, &parts)).await;
        }
        if called.entrance.port.is_none() && self.is_webhook(&called.instance, &parts) {
            self.app.metrics.count_edge(EdgeOutcome::Webhook);
            let client = Client::from_headers(&parts.headers);
            return Ok(Box::pin(self.accept_webhook(&called.instance, parts, body, &client)).await);
        }
        let asked = Program::asked_for(&called.instance, &called.entrance, &mut parts.uri);
        let program = asked.as_ref().ok().and_then(Option::as_ref);
        let Some(visit) = self.let_in(&called, program, &parts).await? else {
            refusal::refuse_closed(called.instance.status().wish)?;
            return self.send_to_log_in(&called, &parts);
        };
        if asked?.is_none() {
            return Ok(program::with_slash(&parts.uri));
        }
        let instance = &visit.instance;
        let most = if visit.visitor == Visitor::Owner { in_flight::MOST } else { in_flight::MOST_WITH_VISITORS };
        let place = self.places.take(instance.id, most).ok_or_else(too_busy)?;
        let kind = if !visit.counts() || passive_requests::wakes_nothing(&parts) { Work::Probe } else { Work::Request };
        if kind == Work::Probe && !instance.is_awake() {
            return Err(if visit.counts() { EdgeRefusal::Asleep } else { EdgeRefusal::AsleepToVisitors(None) });
        }
        // Work is counted before looking whether it is awake: whatever decides to freeze it meanwhile sees the work and thaws.
        let work = instance.begin_work(kind);
        let waited = match self.ensure_awake(&visit, &parts).await? {
            WakeOutcome::Awake(waited) => waited,
            WakeOutcome::Meanwhile(page) => {
                self.app.metrics.count_edge(EdgeOutcome::Waiting);
                return Ok(page);
            }
        };
        self.app.metrics.count_edge(EdgeOutcome::Forwarded);
        let mut answer = self.forward(visit, (work, place), Request::from_parts(parts, body)).await?;
        if let Some(waited) = waited {
            waited.tell(answer.headers_mut());
        }
        Ok(answer)
    }

    async fn ours(&self, called: &ResolvedHost, path: &str, parts: &Parts) -> Result<Response, EdgeRefusal> {
        if parts.method != Method::GET {
            return Ok(StatusCode::METHOD_NOT_ALLOWED.into_response());
        }
        match path {
            "callback" => self.callback(called, parts, &Client::from_headers(&parts.headers)).await,
            "status" if self.visitor(called, &parts.headers).await? == Visitor::Owner => self.progress(called, parts),
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

/// Whether a browser opens a page with this: then refusals and waits are pages, otherwise problem+json and held requests.
/// Narrower than accepting HTML: a form that was sent is held, because a page in its place would lose its body.
fn opens_page(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.headers.get("sec-fetch-dest").is_none_or(|dest| dest == "document")
        && accepts_html(&parts.headers)
        && !parts.headers.contains_key("upgrade")
}
