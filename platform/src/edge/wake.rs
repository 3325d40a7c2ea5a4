//! A request to an instance that is not awake: a person gets a page at once, a program is held with its body unread.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;
use tokio::time::timeout;

use super::pages::WaitingPage;
use super::refusal::EdgeRefusal;
use super::visit::Visit;
use super::{Edge, ResolvedHost, opens_page, passive_requests};
use crate::http::live::{self, WATCHERS};
use crate::instances::{Fact, Status};
use crate::sharing::Visitor;

/// A frozen instance is ready before a page could be drawn, so a person's request waits this long, and no longer, for it.
const THAW: Duration = Duration::from_millis(150);

/// What came of waking it for a request.
pub(super) enum WakeOutcome {
    /// It is awake, and was all along unless something was waited for.
    Awake(Option<WakeDelay>),
    /// It is on its way: what to show meanwhile.
    Meanwhile(Response),
}

/// What a request waited for.
pub(super) struct WakeDelay {
    /// What the instance was: `frozen` or `stopped`.
    from: &'static str,
    took: Duration,
}

impl Edge {
    /// Wakes the instance for this request, if it has to.
    pub(super) async fn ensure_awake(&self, visit: &Visit, parts: &Parts) -> Result<WakeOutcome, EdgeRefusal> {
        let instance = &visit.instance;
        if instance.is_awake() {
            return Ok(WakeOutcome::Awake(None));
        }
        Box::pin(self.awaken(visit, parts)).await
    }

    async fn awaken(&self, visit: &Visit, parts: &Parts) -> Result<WakeOutcome, EdgeRefusal> {
        let instance = &visit.instance;
        if passive_requests::wakes_nothing(parts) {
            return Err(EdgeRefusal::Asleep);
        }
        let most = if visit.visitor == Visitor::Owner { WATCHERS } else { WATCHERS / 2 };
        if instance.watchers() > most {
            return Err(EdgeRefusal::TooManyWaiting);
        }
        let mut status = instance.watch();
        let from = tier(instance.fact());
        let began = self.app.clock.monotonic();
        visit.wake().await?;
        let awake = if opens_page(parts) {
            from == FROZEN && timeout(THAW, status.wait_for(is_awake)).await.is_ok()
        } else {
            self.hold(&mut status).await?;
            true
        };
        if !awake {
            return Ok(WakeOutcome::Meanwhile(self.waiting_page(visit, parts)));
        }
        let took = began.elapsed();
        self.app.metrics.observe_wake(took.as_secs_f64());
        Ok(WakeOutcome::Awake(Some(WakeDelay { from, took })))
    }

    /// Waits until it is awake.
    async fn hold(&self, status: &mut watch::Receiver<Status>) -> Result<(), EdgeRefusal> {
        let settled = |status: &Status| is_awake(status) || status.fact == Fact::Failed;
        match timeout(self.app.config.wake_timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) if is_awake(&status) => Ok(()),
            Ok(Ok(status)) => Err(EdgeRefusal::NotReady(status.failure.clone())),
            _ => Err(EdgeRefusal::NotReady(None)),
        }
    }

    /// The instance's status as it changes, for the waiting page, until its owner logs out.
    pub(super) fn progress(&self, called: &ResolvedHost, parts: &Parts) -> Result<Response, EdgeRefusal> {
        let (edge, owned, headers) = (self.clone(), called.clone(), parts.headers.clone());
        let may_watch = move || {
            let (edge, called, headers) = (edge.clone(), owned.clone(), headers.clone());
            async move { edge.still_stands(&called, &headers).await }
        };
        Ok(live::stream(&called.instance, |status| status, may_watch)?)
    }

    /// 503, so that nothing takes it for the instance's own page or keeps it.
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
    /// Tells the page, beside what the instance itself says there (W3C Server Timing; `dur` is in milliseconds).
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let Self { from, took } = self;
        let text = format!("wake;desc={from};dur={:.1}", took.as_secs_f64() * 1000.0);
        headers.append("server-timing", HeaderValue::from_str(&text).expect("words and a number are header text"));
    }
}

const FROZEN: &str = "frozen";

/// How deep it sleeps: with its memory kept, or not.
fn tier(fact: Fact) -> &'static str {
    match fact {
        Fact::Freezing | Fact::Frozen | Fact::Thawing => FROZEN,
        _ => "stopped",
    }
}

fn is_awake(status: &Status) -> bool {
    status.fact == Fact::Awake
}
