//! Webhook delivery: a dispatcher that wakes instances, sends them their queued webhooks in FIFO order per path, and
//! records each attempt. Delivery is at least once.
//!
//! One task at a time delivers to an instance, one request after another, so that deliveries of one path never overtake
//! each other. Deliveries are not activity: they wake an instance at most at a rate limit and keep it awake for as long
//! as one visit would, however many arrive meanwhile.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::proxy::{ConnectionPool, ContainerEndpoint, UploadBody};
use crate::app::App;
use crate::db::InstanceId;
use crate::instances::{Cause, Fact, Instance, InstanceStatus, Wish, Work};
use crate::webhooks::{AttemptOutcome, DeliveryAttempt, DeliveryId, DueDeliveries, WebhookRequest};

/// How long a program may take until its response begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The most instances that are delivered to concurrently; others queue.
const MAX_RUNS: usize = 64;
/// How often the dispatcher polls for deliveries whose backoff has passed.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Retry intervals: for an instance that is suspended or removed; that did not wake; after a database failure.
const CLOSED_RETRY: Duration = Duration::from_secs(600);
const ASLEEP_RETRY: Duration = Duration::from_secs(60);
const FAULT_RETRY: Duration = Duration::from_secs(5);
/// How long a shutdown waits for attempts in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The dispatcher of all instances' webhooks. Clones share one state.
#[derive(Clone)]
pub struct WebhookDispatcher(Arc<DispatcherInner>);

struct DispatcherInner {
    app: App,
    upstreams: ConnectionPool,
    /// The instances that a task delivers to now. The flag: more deliveries became due since the task began.
    runs: Mutex<HashMap<InstanceId, bool>>,
    run_permits: Semaphore,
    /// Notified whenever a run ends.
    idle: Notify,
    shutdown: CancellationToken,
}

/// What the result of one delivery means for the rest of its run.
enum DeliveryResult {
    /// Delivered, given up, or discarded meanwhile: the next delivery of its path may go.
    Finished,
    /// To be retried: later deliveries of its path wait behind it (head-of-line blocking, which keeps their order).
    Backoff,
    /// The instance is not awake.
    NotAwake,
}

impl WebhookDispatcher {
    /// The dispatcher of this platform.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self(Arc::new(DispatcherInner {
            upstreams: ConnectionPool::new(app.instances.clone(), app.clock.clone()),
            app,
            runs: Mutex::default(),
            run_permits: Semaphore::new(MAX_RUNS),
            idle: Notify::new(),
            shutdown: CancellationToken::new(),
        }))
    }

    /// Delivers until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut poll = tokio::time::interval(POLL_EVERY);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.app.webhooks.until_due() => {}
                _ = poll.tick() => {}
            }
            self.dispatch_due();
        }
        self.0.shutdown.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.settled()).await.is_err() {
            tracing::info!("ending with webhook deliveries in flight; they are attempted again at the next start");
        }
    }

    /// Begins a run for every instance with a delivery that is due.
    pub fn dispatch_due(&self) {
        for instance in self.0.app.webhooks.take_due() {
            let begins = self.with_runs(|runs| match runs.entry(instance) {
                // `take_due` names an instance once. The flag keeps the notice for the run in progress, which may have
                // read its deliveries before the new one arrived.
                Entry::Occupied(mut due_again) => {
                    due_again.insert(true);
                    false
                }
                Entry::Vacant(entry) => {
                    entry.insert(false);
                    true
                }
            });
            if begins {
                tokio::spawn(self.clone().run_until_done(instance));
            }
        }
    }

    /// Waits until no run is in progress.
    pub async fn settled(&self) {
        loop {
            // Lost wake-up: the waiter registers before it reads the map. A run that ends in between would notify
            // nothing.
            let idle = self.0.idle.notified();
            if self.with_runs(|runs| runs.is_empty()) {
                return;
            }
            idle.await;
        }
    }

    async fn run_until_done(self, id: InstanceId) {
        loop {
            // The run is a task of its own, so that a panic ends only this run and does not leave the instance marked
            // as running.
            let this = self.clone();
            let ran = tokio::spawn(async move { this.run_once(id).await }).await;
            let again = ran.unwrap_or_else(|panic| Err(Error::Internal(panic.into())));
            let again = again.unwrap_or_else(|error| {
                tracing::warn!(instance.id = %id, error = ?error, "webhooks could not be delivered");
                Some(self.after(FAULT_RETRY))
            });
            if let Some(at) = again {
                self.0.app.webhooks.schedule(id, at);
            }
            // The flag is read and the entry removed under one lock. Between the two, `dispatch_due` could otherwise
            // set a flag that no task reads any more.
            let done = self.with_runs(|runs| match runs.get_mut(&id) {
                Some(due_again) if *due_again && !self.0.shutdown.is_cancelled() => {
                    *due_again = false;
                    false
                }
                _ => {
                    runs.remove(&id);
                    true
                }
            });
            if done {
                self.0.idle.notify_waiters();
                return;
            }
        }
    }

    /// Attempts the due deliveries of one instance until none is left. Returns when to run again, `None` if nothing
    /// waits.
    async fn run_once(&self, id: InstanceId) -> Result<Option<Timestamp>> {
        let webhooks = &self.0.app.webhooks;
        let Some(instance) = self.0.app.instances.by_id(id) else { return Ok(None) };
        let Ok(_permit) = self.0.run_permits.acquire().await else { return Ok(None) };
        loop {
            if self.0.shutdown.is_cancelled() {
                return Ok(None);
            }
            let due = webhooks.due_deliveries(id).await?;
            if due.deliveries.is_empty() {
                webhooks.prune_delivered(id).await?;
                return Ok(due.next);
            }
            if let Some(later) = self.wake(&instance, &due).await? {
                return Ok(Some(later));
            }
            let mut blocked = HashSet::new();
            for (delivery, path) in due.deliveries {
                if blocked.contains(&path) {
                    continue;
                }
                if self.0.shutdown.is_cancelled() || !self.is_kept_awake(&instance) {
                    break;
                }
                match self.deliver(&instance, delivery).await? {
                    DeliveryResult::Finished => {}
                    DeliveryResult::Backoff => {
                        blocked.insert(path);
                    }
                    DeliveryResult::NotAwake => return Ok(Some(self.after(Duration::from_secs(1)))),
                }
            }
        }
    }

    /// Wakes the instance for deliveries and waits until it is awake. If it does not wake, returns when to try again.
    async fn wake(&self, instance: &Arc<Instance>, due: &DueDeliveries) -> Result<Option<Timestamp>> {
        let app = &self.0.app;
        if is_closed(instance) {
            return Ok(Some(self.after(CLOSED_RETRY)));
        }
        if !self.is_kept_awake(instance) {
            // An alarm comes from the owner's own program: strangers who exhausted the wake limit for webhooks must not
            // delay it.
            let cause = if due.has_new_alarm { Cause::Alarm } else { Cause::Webhook };
            if cause == Cause::Webhook
                && let Err(at) = app.webhooks.check_wake_rate(instance.id)
            {
                return Ok(Some(at));
            }
            match app.instances.wake(instance, cause).await {
                Ok(()) => app.webhooks.record_wake(instance.id),
                Err(Error::Forbidden(_)) => return Ok(Some(self.after(CLOSED_RETRY))),
                Err(Error::Conflict(_)) => return Ok(Some(self.after(FAULT_RETRY))),
                Err(error) => return Err(error),
            }
        }
        let settled = |status: &InstanceStatus| matches!(status.fact, Fact::Awake | Fact::Failed);
        let mut status = instance.watch();
        let awake = match tokio::time::timeout(app.config.wake_timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) => status.fact == Fact::Awake,
            _ => false,
        };
        Ok((!awake).then(|| self.after(ASLEEP_RETRY)))
    }

    /// Whether the instance is awake for a reason other than deliveries, or was recently woken for deliveries.
    fn is_kept_awake(&self, instance: &Instance) -> bool {
        let (now, freeze_after) = (self.0.app.clock.now(), instance.policy().freeze_after);
        let report = self.0.app.instances.awake_report(instance);
        // The CPU time may come from handling the last delivery. If it counted as a reason to deliver more, a sender
        // that never pauses would keep the instance awake for ever.
        let by_others = report.last.is_none_or(|last| last.work != Work::Processor);
        instance.status().wish == Wish::Available
            && now.since(report.idle_since) < freeze_after
            && (by_others || now.since(self.0.app.webhooks.last_wake_at(instance.id)) < freeze_after)
    }

    async fn deliver(&self, instance: &Arc<Instance>, id: DeliveryId) -> Result<DeliveryResult> {
        if !instance.is_awake() {
            return Ok(DeliveryResult::NotAwake);
        }
        // The guard is held over the attempt, so that the instance does not freeze in the middle of it. This kind of
        // work does not reset the idle timeout.
        let _work = instance.begin_work(Work::Webhook);
        // Race with the reconciler: the freeze may have been decided before this work was counted, so the state is read
        // again.
        if !instance.is_awake() {
            return Ok(DeliveryResult::NotAwake);
        }
        let webhooks = &self.0.app.webhooks;
        // `None`: the owner discarded the delivery since the list was read.
        let Some(attempt) = webhooks.begin_attempt(id).await? else { return Ok(DeliveryResult::Finished) };
        let outcome = match &attempt.delivery.request {
            Some(request) => self.send(instance, &attempt, request).await,
            None => AttemptOutcome::Accepted { result: "woke".into() },
        };
        let retry_at = webhooks.end_attempt(&attempt, &outcome).await?;
        tracing::debug!(
            instance.id = %instance.id, delivery.id = %id, attempt = attempt.number, outcome = ?outcome,
            "attempted a webhook delivery"
        );
        Ok(if retry_at.is_some() { DeliveryResult::Backoff } else { DeliveryResult::Finished })
    }

    async fn send(
        &self,
        instance: &Arc<Instance>,
        attempt: &DeliveryAttempt,
        webhook: &WebhookRequest,
    ) -> AttemptOutcome {
        let refused = |result: &str| AttemptOutcome::Refused { result: result.to_owned() };
        let Some(request) = self.request(instance, attempt, webhook) else {
            return AttemptOutcome::Permanent { result: "cannot be sent".into() };
        };
        let Some(target) = ContainerEndpoint::of(instance, instance.socket()) else { return refused("no container") };
        let request = request.map(UploadBody::plain);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.0.upstreams.send(&target, request)).await;
        let Ok(answer) = answer else { return refused("no answer within a minute") };
        match answer {
            Ok(status) if status.is_success() => AttemptOutcome::Accepted { result: status.as_u16().to_string() },
            // 410 Gone is how a receiver ends a subscription, as in WebSub (7) and Standard Webhooks.
            Ok(StatusCode::GONE) => AttemptOutcome::Permanent { result: "410".into() },
            Ok(status) => refused(status.as_u16().to_string().as_str()),
            Err(error) => {
                tracing::debug!(instance.id = %instance.id, error = format!("{error:#}"), "a webhook delivery failed");
                self.0.app.instances.report_unreachable(instance);
                refused("closed the connection")
            }
        }
    }

    /// The stored request with the headers of this attempt. It carries no `X-Berth-User`, because its sender did not
    /// log in.
    fn request(&self, instance: &Instance, attempt: &DeliveryAttempt, webhook: &WebhookRequest) -> Option<Request> {
        let origin = self.0.app.config.hosts.instance_origin(&instance.handle);
        let host = HeaderValue::from_str(origin.trim_start_matches("https://")).ok()?;
        let mut request = Request::builder()
            .method(webhook.method.as_str())
            .uri(webhook.target.as_str())
            .body(Body::from(webhook.body.clone()))
            .ok()?;
        let headers = request.headers_mut();
        for (name, value) in &webhook.headers {
            let value: Vec<u8> = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            headers.append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(&value).ok()?);
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        headers.insert("x-forwarded-host", host.clone());
        headers.insert(header::HOST, host);
        headers.insert("x-berth-delivery", HeaderValue::from_str(&attempt.delivery.id.to_string()).ok()?);
        headers.insert("x-berth-attempt", HeaderValue::from(attempt.number));
        if let Some(alarm) = &attempt.delivery.alarm {
            headers.insert("x-berth-alarm", HeaderValue::from_str(alarm).ok()?);
        }
        Some(request)
    }

    fn after(&self, wait: Duration) -> Timestamp {
        self.0.app.clock.now().plus(wait)
    }

    fn with_runs<T>(&self, look: impl FnOnce(&mut HashMap<InstanceId, bool>) -> T) -> T {
        look(&mut self.0.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_closed(instance: &Instance) -> bool {
    instance.status().wish.is_closed()
}
