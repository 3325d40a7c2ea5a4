//! The wake gate: holds or answers a request to an instance that is not awake. A person gets a waiting page at once; a
//! program's request is held, its body unread, until the instance is awake.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;
use tokio::time::timeout;

use super::pages::WaitingPage;
use super::refusal::EdgeRefusal;
use super::visit::Visit;
use super::{Edge, ResolvedHost, passive_requests};
use crate::http::accept::opens_page;
use crate::http::live::{self, WATCHERS};
use crate::instances::{Fact, InstanceStatus};
use crate::sharing::Visitor;

/// How long a person's request waits for a thaw before the waiting page is shown. A thaw takes milliseconds, less than
/// loading a waiting page.
const THAW_TIMEOUT: Duration = Duration::from_millis(150);

/// The result of waking an instance for a request.
pub(super) enum WakeOutcome {
    /// The instance is awake. `None` if it did not have to wake.
    Awake(Option<WakeDelay>),
    /// The instance is waking; holds the waiting page.
    Waking(Response),
}

/// How long a request waited for its instance to wake.
pub(super) struct WakeDelay {
    /// The state from which the instance woke: `frozen` or `stopped`.
    from: &'static str,
    took: Duration,
}

impl Edge {
    /// Wakes the instance for this request if it is not awake.
    pub(super) async fn ensure_awake(&self, visit: &Visit, parts: &Parts) -> Result<WakeOutcome, EdgeRefusal> {
        let instance = &visit.instance;
        if instance.is_awake() {
            return Ok(WakeOutcome::Awake(None));
        }
        // Boxed, so that requests to an awake instance do not carry the size of this future.
        Box::pin(self.wake_for_request(visit, parts)).await
    }

    async fn wake_for_request(&self, visit: &Visit, parts: &Parts) -> Result<WakeOutcome, EdgeRefusal> {
        let instance = &visit.instance;
        if passive_requests::is_passive(parts) {
            return Err(EdgeRefusal::Asleep);
        }
        // Held requests and open status streams count together. Visitors may use half, so that the owner can always
        // wait.
        let most = if visit.visitor == Visitor::Owner { WATCHERS } else { WATCHERS / 2 };
        if instance.watchers() > most {
            return Err(EdgeRefusal::TooManyWaiting);
        }
        // From here on this request counts as a watcher itself.
        let mut status = instance.watch();
        let from = sleep_tier(instance.fact());
        let began = self.app.clock.monotonic();
        visit.wake().await?;
        let awake = if opens_page(parts) {
            from == FROZEN && timeout(THAW_TIMEOUT, status.wait_for(is_awake)).await.is_ok()
        } else {
            self.wait_until_awake(&mut status).await?;
            true
        };
        if !awake {
            return Ok(WakeOutcome::Waking(self.waiting_page(visit, parts)));
        }
        let took = began.elapsed();
        self.app.metrics.observe_wake(took.as_secs_f64());
        Ok(WakeOutcome::Awake(Some(WakeDelay { from, took })))
    }

    /// Waits until the instance is awake, at most for the configured wake timeout.
    async fn wait_until_awake(&self, status: &mut watch::Receiver<InstanceStatus>) -> Result<(), EdgeRefusal> {
        let settled = |status: &InstanceStatus| is_awake(status) || status.fact == Fact::Failed;
        match timeout(self.app.config.wake_timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) if is_awake(&status) => Ok(()),
            Ok(Ok(status)) => Err(EdgeRefusal::NotReady(status.failure.clone())),
            _ => Err(EdgeRefusal::NotReady(None)),
        }
    }

    /// `GET /.berth/status`: the instance's status as server-sent events, for the waiting page. Ends when the owner
    /// logs out.
    pub(super) fn stream_status(self: &Arc<Self>, host: &ResolvedHost, parts: &Parts) -> Result<Response, EdgeRefusal> {
        let (edge, watched, headers) = (Arc::clone(self), host.clone(), parts.headers.clone());
        let may_watch = move || {
            let (edge, host, headers) = (Arc::clone(&edge), watched.clone(), headers.clone());
            async move { edge.session_is_valid(&host, &headers).await }
        };
        Ok(live::stream(&host.instance, |status| status, may_watch)?)
    }

    /// The waiting page, sent as 503 with Retry-After: caches do not store it, and crawlers do not index it as the
    /// instance's own page.
    fn waiting_page(&self, visit: &Visit, parts: &Parts) -> Response {
        let status = visit.instance.status();
        let is_owner = visit.visitor == Visitor::Owner;
        let page = WaitingPage {
            handle: visit.instance.handle.to_string(),
            address: visit.address(&parts.uri),
            stage: status.stage,
            failure: status.failure.filter(|_| is_owner),
            dashboard: is_owner.then(|| self.app.config.hosts.app_origin()),
        };
        (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, "no-store"), (header::RETRY_AFTER, "2")], page)
            .into_response()
    }
}

impl WakeDelay {
    /// Appends a `Server-Timing` entry to the instance's own (W3C Server Timing; `dur` is in milliseconds).
    pub(super) fn append_server_timing(&self, headers: &mut HeaderMap) {
        let Self { from, took } = self;
        let text = format!("wake;desc={from};dur={:.1}", took.as_secs_f64() * 1000.0);
        headers.append("server-timing", HeaderValue::from_str(&text).expect("words and a number are header text"));
    }
}

const FROZEN: &str = "frozen";

/// The sleep tier: frozen (memory is kept) or stopped (the container has to start).
fn sleep_tier(fact: Fact) -> &'static str {
    match fact {
        Fact::Freezing | Fact::Frozen | Fact::Thawing => FROZEN,
        _ => "stopped",
    }
}

fn is_awake(status: &InstanceStatus) -> bool {
    status.fact == Fact::Awake
}
