//! A request to an instance that is not awake: a person gets a page at once, a program is held, and some wake nothing.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;

use super::pages::WaitingPage;
use super::refusal::Refusal;
use super::visit::Visit;
use super::{Called, Edge, opens_page};
use crate::instances::{Fact, Status};
use crate::sharing::Visitor;
use crate::web::live::{self, WATCHERS};

/// A frozen instance is ready before a page could be drawn, so a person's request waits this long, and no longer, for it.
const THAW: Duration = Duration::from_millis(150);

impl Edge {
    /// Wakes the instance for this request. `None` once it is awake; else what to answer meanwhile.
    pub(super) async fn wake(&self, visit: &Visit, parts: &Parts) -> Result<Option<Response>, Refusal> {
        let instance = &visit.instance;
        if wakes_nothing(parts) {
            return Err(Refusal::Asleep);
        }
        let most = if visit.visitor == Visitor::Owner { WATCHERS } else { WATCHERS / 2 };
        if instance.watchers() > most {
            return Err(Refusal::TooManyWaiting);
        }
        let mut status = instance.watch();
        let frozen = instance.fact() == Fact::Frozen;
        visit.wake().await?;
        if opens_page(parts) {
            let awake = frozen && timeout(THAW, status.wait_for(is_awake)).await.is_ok();
            return Ok(if awake { None } else { Some(self.waiting_page(visit)) });
        }
        let settled = |status: &Status| is_awake(status) || status.fact == Fact::Failed;
        let began = self.app.clock.monotonic();
        let outcome = match timeout(self.app.config.wake_timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) => status.clone(),
            _ => return Err(Refusal::NotReady(None)),
        };
        self.app.metrics.observe_wake(began.elapsed().as_secs_f64());
        if is_awake(&outcome) { Ok(None) } else { Err(Refusal::NotReady(outcome.failure)) }
    }

    /// The instance's status as it changes, for the waiting page, until its owner logs out.
    pub(super) fn progress(&self, called: &Called, parts: &Parts) -> Result<Response, Refusal> {
        let (edge, owned, headers) = (self.clone(), called.clone(), parts.headers.clone());
        let may_watch = move || {
            let (edge, called, headers) = (edge.clone(), owned.clone(), headers.clone());
            async move { edge.still_stands(&called, &headers).await }
        };
        Ok(live::stream(&called.instance, |status| status, may_watch)?)
    }

    /// 503, so that nothing takes it for the instance's own page or keeps it.
    fn waiting_page(&self, visit: &Visit) -> Response {
        let status = visit.instance.status();
        let is_owner = visit.visitor == Visitor::Owner;
        let page = WaitingPage {
            handle: visit.instance.handle.to_string(),
            stage: status.stage,
            failure: status.failure.filter(|_| is_owner),
            dashboard: is_owner.then(|| self.app.config.hosts.app_origin()),
        };
        (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, "no-store"), (header::RETRY_AFTER, "2")], page)
            .into_response()
    }
}

fn is_awake(status: &Status) -> bool {
    status.fact == Fact::Awake
}

/// What browsers and crawlers fetch by themselves, and looks that are not visits.
pub(super) fn wakes_nothing(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let prefetch = parts.headers.get("sec-purpose").is_some_and(|v| v.as_bytes().starts_with(b"prefetch"));
    prefetch
        || parts.method == Method::HEAD
        || matches!(path, "/favicon.ico" | "/robots.txt")
        || path.starts_with("/.well-known/")
}
