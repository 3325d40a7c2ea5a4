//! A request to an instance that is not awake: a person gets a page at once, a program is held, and some wake nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;

use super::pages::WaitingPage;
use super::refusal::Refusal;
use super::{Edge, opens_page};
use crate::instances::{Cause, Fact, Instance, Status};

/// Requests that may wait for one instance at a time.
const WAITING: usize = 100;
/// A frozen instance is ready before a page could be drawn, so a person's request waits this long, and no longer, for it.
const THAW: Duration = Duration::from_millis(150);

impl Edge {
    /// Wakes the instance for this request. `None` once it is awake; else what to answer meanwhile.
    pub(super) async fn wake(&self, instance: &Arc<Instance>, parts: &Parts) -> Result<Option<Response>, Refusal> {
        if wakes_nothing(parts) {
            return Ok(Some(StatusCode::NOT_FOUND.into_response()));
        }
        if instance.watchers() > WAITING {
            return Err(Refusal::TooManyWaiting);
        }
        let mut status = instance.watch();
        let frozen = instance.fact() == Fact::Frozen;
        self.app.instances.wake(instance, Cause::Visit).await?;
        if opens_page(parts) {
            let awake = frozen && timeout(THAW, status.wait_for(is_awake)).await.is_ok();
            return Ok(if awake { None } else { Some(self.waiting_page(instance)) });
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

    /// 503, so that nothing takes it for the instance's own page or keeps it.
    fn waiting_page(&self, instance: &Instance) -> Response {
        let status = instance.status();
        let page = WaitingPage {
            handle: instance.handle.to_string(),
            stage: status.stage,
            failure: status.failure,
            app_origin: self.app.config.hosts.app_origin(),
        };
        (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, "no-store"), (header::RETRY_AFTER, "2")], page)
            .into_response()
    }
}

/// The instance's status as server-sent events, for the waiting page. Looking is not activity.
pub(super) fn progress(instance: &Instance) -> Response {
    let events = WatchStream::new(instance.watch()).map(|status| Event::default().json_data(status)).take(1000);
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn is_awake(status: &Status) -> bool {
    status.fact == Fact::Awake
}

/// What browsers and crawlers fetch by themselves, and looks that are not visits.
fn wakes_nothing(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let prefetch = parts.headers.get("sec-purpose").is_some_and(|v| v.as_bytes().starts_with(b"prefetch"));
    prefetch
        || parts.method == Method::HEAD
        || matches!(path, "/favicon.ico" | "/robots.txt")
        || path.starts_with("/.well-known/")
}
