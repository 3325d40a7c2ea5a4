//! The door to instances: whose is it, may this request pass, is it awake, and then through, byte for byte.

mod ask;
mod bodies;
mod gate;
mod headers;
mod mailbox;
mod movement;
pub mod pages;
mod places;
mod postman;
mod proxy;
mod refusal;
mod relay;
mod sign_in;
mod strict;
mod upstream;
mod visit;
mod wake;

use std::sync::Arc;
use std::time::Duration;

pub use ask::ask;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use places::Places;
pub use postman::Postman;
use refusal::Refusal;
pub use strict::{read_strictly, refuse_cookie_bombs};
pub use upstream::Upstreams;

use crate::app::App;
use crate::client::Client;
use crate::cookies;
use crate::error::Error;
use crate::handle::Handle;
use crate::instances::{Instance, Work};
use crate::ops::EdgeOutcome;
use crate::web::accepts_html;

/// Everything below this path on an instance's host is the edge's own and never reaches the container.
const OURS: &str = "/.berth/";

/// What the edge works with.
#[derive(Clone)]
pub struct Edge {
    app: App,
    upstreams: Upstreams,
    places: Places,
    counter: mailbox::Counter,
}

impl Edge {
    /// The edge of this platform.
    #[must_use]
    pub fn new(app: App) -> Self {
        let upstreams = Upstreams::new(app.instances.clone(), app.clock.clone());
        Self { app, upstreams, places: Places::default(), counter: mailbox::Counter::default() }
    }

    /// Answers a request whose Host is `HANDLE.example.com`.
    pub async fn serve(&self, handle: &Handle, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let opens_page = opens_page(&parts);
        match self.pass(handle, parts, body).await {
            Ok(response) => response,
            Err(refusal) => {
                self.app.metrics.count_edge(EdgeOutcome::Refused);
                refusal.into_response(opens_page, &self.app.config.hosts)
            }
        }
    }

    async fn pass(&self, handle: &Handle, parts: Parts, body: Body) -> Result<Response, Refusal> {
        let instance = self.app.instances.by_handle(handle).ok_or(Refusal::NoSuchInstance)?;
        let client = Client::from_headers(&parts.headers);
        if let Some(path) = parts.uri.path().strip_prefix(OURS) {
            return self.ours(&instance, path, &parts, &client).await;
        }
        if self.is_letter(&instance, &parts) {
            self.app.metrics.count_edge(EdgeOutcome::Letter);
            return Ok(self.take_in(&instance, parts, body, &client).await);
        }
        if !self.is_owner(&instance, &parts.headers).await? {
            // Sent to log in, it would come back with a third cookie that is not believed either, again and again.
            if cookies::is_twice(&parts.headers, cookies::SESSION) {
                return Err(Refusal::TwoCookies);
            }
            return self.send_to_log_in(&instance, &parts);
        }
        gate::refuse_other_origins(&parts, &self.app.config.hosts.instance_origin(handle))?;
        let place = self.places.take(instance.id).ok_or_else(too_busy)?;
        let kind = if wake::wakes_nothing(&parts) { Work::Probe } else { Work::Request };
        if kind == Work::Probe && !instance.is_awake() {
            return Err(Refusal::Asleep);
        }
        // Work is counted before looking whether it is awake: whatever decides to freeze it meanwhile sees the work and thaws.
        let work = instance.begin_work(kind);
        if !instance.is_awake()
            && let Some(waiting) = self.wake(&instance, &parts).await?
        {
            self.app.metrics.count_edge(EdgeOutcome::Waiting);
            return Ok(waiting);
        }
        self.app.metrics.count_edge(EdgeOutcome::Forwarded);
        self.forward(&instance, (work, place), Request::from_parts(parts, body)).await
    }

    async fn ours(
        &self,
        instance: &Arc<Instance>,
        path: &str,
        parts: &Parts,
        client: &Client,
    ) -> Result<Response, Refusal> {
        if parts.method != Method::GET {
            return Ok(StatusCode::METHOD_NOT_ALLOWED.into_response());
        }
        match path {
            "callback" => self.callback(instance, parts, client).await,
            "status" if self.is_owner(instance, &parts.headers).await? => self.progress(instance, parts),
            "status" => Err(Refusal::LogIn),
            path => match path.strip_prefix("assets/") {
                Some(asset) => Ok(crate::web::assets::serve(asset)),
                None => Err(Refusal::NotHere),
            },
        }
    }
}

fn too_busy() -> Refusal {
    let message = "This instance has too many requests and connections open. Close some, or try again in a moment.";
    Refusal::Ours(Error::Unavailable { message: message.into(), retry_after: Duration::from_secs(5) })
}

/// Whether a browser opens a page with this: then refusals and waits are pages, otherwise problem+json and held requests.
/// Narrower than accepting HTML: a form that was sent is held, because a page in its place would lose its body.
fn opens_page(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.headers.get("sec-fetch-dest").is_none_or(|dest| dest == "document")
        && accepts_html(&parts.headers)
        && !parts.headers.contains_key("upgrade")
}
