//! Carries letters from the mailbox to the programs they are for: wakes, sends, and writes down what came of it.
//!
//! An instance is walked to by one task at a time, letter by letter in the order of arrival, so that a path's letters never
//! overtake each other. Being carried to is no use of an instance: mail alone wakes it so often in an hour and keeps it
//! awake for as long as a visit would, whatever else arrives meanwhile.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::proxy::{ConnectionPool, ContainerEndpoint, UploadBody};
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::InstanceId;
use crate::error::{Error, Result};
use crate::instances::{Cause, Fact, Instance, Status, Wish, Work};
use crate::mailbox::{Delivery, LetterId, Outcome, Parcel, Round};

/// How long a program may think about a letter until its answer begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Instances that are walked to at a time; others wait their turn.
const WALKS: usize = 64;
/// How often it is looked whether a letter's pause is over.
const TICK: Duration = Duration::from_millis(500);
/// When to come back to an instance that is suspended or removed; one that did not wake; after the database failed.
const CLOSED_RETRY: Duration = Duration::from_secs(600);
const ASLEEP_RETRY: Duration = Duration::from_secs(60);
const FAULT_RETRY: Duration = Duration::from_secs(5);
/// How long the end of the process waits for letters that programs have in hand.
const PATIENCE: Duration = Duration::from_secs(5);

/// The one that carries. Clones are the same one.
#[derive(Clone)]
pub struct Postman(Arc<Inner>);

struct Inner {
    app: App,
    upstreams: ConnectionPool,
    /// Whom somebody is walking to; true when there is more to carry meanwhile.
    walks: Mutex<HashMap<InstanceId, bool>>,
    at_a_time: Semaphore,
    quiet: Notify,
    ending: CancellationToken,
}

/// What became of a letter in hand.
enum Carried {
    /// It was taken, given up, or is gone.
    Done,
    /// It is tried again later.
    Refused,
    /// The instance does not run.
    Asleep,
}

impl Postman {
    /// The postman of this platform.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self(Arc::new(Inner {
            upstreams: ConnectionPool::new(app.instances.clone(), app.clock.clone()),
            app,
            walks: Mutex::default(),
            at_a_time: Semaphore::new(WALKS),
            quiet: Notify::new(),
            ending: CancellationToken::new(),
        }))
    }

    /// Carries until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.app.mailbox.until_due() => {}
                _ = tick.tick() => {}
            }
            self.look();
        }
        self.0.ending.cancel();
        if tokio::time::timeout(PATIENCE, self.settled()).await.is_err() {
            tracing::info!("ending with letters in hand; they are carried again at the next start");
        }
    }

    /// Sets out to everybody for whom there is something now.
    pub fn look(&self) {
        for instance in self.0.app.mailbox.take_due() {
            let begins = self.walks(|walks| match walks.entry(instance) {
                Entry::Occupied(mut more) => {
                    more.insert(true);
                    false
                }
                Entry::Vacant(nobody) => {
                    nobody.insert(false);
                    true
                }
            });
            if begins {
                tokio::spawn(self.clone().walk_until_done(instance));
            }
        }
    }

    /// Waits until nobody is being walked to.
    pub async fn settled(&self) {
        loop {
            let quiet = self.0.quiet.notified();
            if self.walks(|walks| walks.is_empty()) {
                return;
            }
            quiet.await;
        }
    }

    async fn walk_until_done(self, id: InstanceId) {
        loop {
            // A task of its own, so that a panic is one walk's failure.
            let this = self.clone();
            let walked = tokio::spawn(async move { this.walk(id).await }).await;
            let again = walked.unwrap_or_else(|panic| Err(Error::Internal(panic.into())));
            let again = again.unwrap_or_else(|error| {
                tracing::warn!(instance.id = %id, error = ?error, "letters could not be carried");
                Some(self.in_a(FAULT_RETRY))
            });
            if let Some(at) = again {
                self.0.app.mailbox.look_at(id, at);
            }
            let over = self.walks(|walks| match walks.get_mut(&id) {
                Some(more) if *more && !self.0.ending.is_cancelled() => {
                    *more = false;
                    false
                }
                _ => {
                    walks.remove(&id);
                    true
                }
            });
            if over {
                self.0.quiet.notify_waiters();
                return;
            }
        }
    }

    /// Carries what there is to carry to one instance; when to come again, if there is a reason to.
    async fn walk(&self, id: InstanceId) -> Result<Option<Timestamp>> {
        let app = &self.0.app;
        let Some(instance) = app.instances.by_id(id) else { return Ok(None) };
        let Ok(_turn) = self.0.at_a_time.acquire().await else { return Ok(None) };
        loop {
            if self.0.ending.is_cancelled() {
                return Ok(None);
            }
            let round = app.mailbox.round(id).await?;
            if round.letters.is_empty() {
                app.mailbox.tidy_up(id).await?;
                return Ok(round.next);
            }
            if let Some(later) = self.wake(&instance, &round).await? {
                return Ok(Some(later));
            }
            let mut refused = HashSet::new();
            for (letter, path) in round.letters {
                if refused.contains(&path) {
                    continue;
                }
                if self.0.ending.is_cancelled() || !self.is_kept_awake(&instance) {
                    break;
                }
                match self.carry(&instance, letter).await? {
                    Carried::Done => {}
                    Carried::Refused => {
                        refused.insert(path);
                    }
                    Carried::Asleep => return Ok(Some(self.in_a(Duration::from_secs(1)))),
                }
            }
        }
    }

    /// Has the instance awake for these letters, or says when to come again.
    async fn wake(&self, instance: &Arc<Instance>, round: &Round) -> Result<Option<Timestamp>> {
        let app = &self.0.app;
        if is_closed(instance) {
            return Ok(Some(self.in_a(CLOSED_RETRY)));
        }
        if !self.is_kept_awake(instance) {
            // What its own program asked for is not taken from what strangers may use up.
            let cause = if round.alarm { Cause::Alarm } else { Cause::Mail };
            if cause == Cause::Mail
                && let Err(at) = app.mailbox.may_wake(instance.id)
            {
                return Ok(Some(at));
            }
            match app.instances.wake(instance, cause).await {
                Ok(()) => app.mailbox.woke(instance.id),
                Err(Error::Forbidden(_)) => return Ok(Some(self.in_a(CLOSED_RETRY))),
                Err(Error::Conflict(_)) => return Ok(Some(self.in_a(FAULT_RETRY))),
                Err(error) => return Err(error),
            }
        }
        let settled = |status: &Status| matches!(status.fact, Fact::Awake | Fact::Failed);
        let mut status = instance.watch();
        let awake = match tokio::time::timeout(app.config.wake_timeout, status.wait_for(settled)).await {
            Ok(Ok(status)) => status.fact == Fact::Awake,
            _ => false,
        };
        Ok((!awake).then(|| self.in_a(ASLEEP_RETRY)))
    }

    /// Whether something other than letters keeps it awake, or a wake for letters is not long past. The processor time that
    /// letters take keeps it awake as well, but is no reason for more of them.
    fn is_kept_awake(&self, instance: &Instance) -> bool {
        let (now, freeze_after) = (self.0.app.clock.now(), instance.policy().freeze_after);
        let ledger = self.0.app.instances.ledger(instance);
        let by_others = ledger.last.is_none_or(|last| last.work != Work::Processor);
        instance.status().wish == Wish::Available
            && now.since(ledger.idle_since) < freeze_after
            && (by_others || now.since(self.0.app.mailbox.woke_at(instance.id)) < freeze_after)
    }

    async fn carry(&self, instance: &Arc<Instance>, letter: LetterId) -> Result<Carried> {
        if !instance.is_awake() {
            return Ok(Carried::Asleep);
        }
        // It does not fall asleep over a letter, and is not thought to be used for it.
        let _work = instance.begin_work(Work::Letter);
        if !instance.is_awake() {
            return Ok(Carried::Asleep);
        }
        let mailbox = &self.0.app.mailbox;
        let Some(delivery) = mailbox.begin_attempt(letter).await? else { return Ok(Carried::Done) };
        let outcome = match &delivery.letter.parcel {
            Some(parcel) => self.send(instance, &delivery, parcel).await,
            None => Outcome::Taken { answer: "woke".into() },
        };
        let again = mailbox.end_attempt(&delivery, &outcome).await?;
        tracing::debug!(instance.id = %instance.id, letter.id = %letter, attempt = delivery.attempt, outcome = ?outcome, "carried a letter");
        Ok(if again.is_some() { Carried::Refused } else { Carried::Done })
    }

    async fn send(&self, instance: &Arc<Instance>, delivery: &Delivery, parcel: &Parcel) -> Outcome {
        let refused = |answer: &str| Outcome::Refused { answer: answer.to_owned() };
        let Some(request) = self.request(instance, delivery, parcel) else {
            return Outcome::Never { answer: "cannot be sent".into() };
        };
        let Some(target) = ContainerEndpoint::of(instance, instance.socket()) else { return refused("no container") };
        let request = request.map(UploadBody::plain);
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.0.upstreams.send(&target, request)).await;
        let Ok(answer) = answer else { return refused("no answer within a minute") };
        match answer {
            Ok(status) if status.is_success() => Outcome::Taken { answer: status.as_u16().to_string() },
            Ok(StatusCode::GONE) => Outcome::Never { answer: "410".into() },
            Ok(status) => refused(status.as_u16().to_string().as_str()),
            Err(error) => {
                tracing::debug!(instance.id = %instance.id, error = format!("{error:#}"), "an instance did not take a letter");
                self.0.app.instances.report_unreachable(instance);
                refused("closed the connection")
            }
        }
    }

    /// The request as it came, with the id by which its receiver knows it again. It carries nobody's name.
    fn request(&self, instance: &Instance, delivery: &Delivery, parcel: &Parcel) -> Option<Request> {
        let origin = self.0.app.config.hosts.instance_origin(&instance.handle);
        let host = HeaderValue::from_str(origin.trim_start_matches("https://")).ok()?;
        let mut request = Request::builder()
            .method(parcel.method.as_str())
            .uri(parcel.target.as_str())
            .body(Body::from(parcel.body.clone()))
            .ok()?;
        let headers = request.headers_mut();
        for (name, value) in &parcel.headers {
            let value: Vec<u8> = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            headers.append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(&value).ok()?);
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        headers.insert("x-forwarded-host", host.clone());
        headers.insert(header::HOST, host);
        headers.insert("x-berth-delivery", HeaderValue::from_str(&delivery.letter.id.to_string()).ok()?);
        headers.insert("x-berth-attempt", HeaderValue::from(delivery.attempt));
        if let Some(alarm) = &delivery.letter.alarm {
            headers.insert("x-berth-alarm", HeaderValue::from_str(alarm).ok()?);
        }
        Some(request)
    }

    fn in_a(&self, while_: Duration) -> Timestamp {
        self.0.app.clock.now().plus(while_)
    }

    fn walks<T>(&self, look: impl FnOnce(&mut HashMap<InstanceId, bool>) -> T) -> T {
        look(&mut self.0.walks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_closed(instance: &Instance) -> bool {
    instance.status().wish.is_closed()
}
