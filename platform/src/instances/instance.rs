//! One instance as this process knows it, in memory: the edge and Caddy's `ask` never wait for the database.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::rules::{
    Activity, Cause, ContainerPhase, ContainerRenewal, Fact, MemoryPressure, ObservedState, SleepPolicy, WakeStage,
    Wish,
};
use super::store::{InstanceRecord, UpgradeProgress, WishRecord};
use super::work::DeclaredJob;
use super::work_tally::WorkTally;
use super::{Inner, InstanceSettings, InstanceStatus, PortList};
use crate::clock::Timestamp;
use crate::containers::Slot;
use crate::db::{AccountId, InstanceId};
use crate::handle::Handle;

/// A person's computer.
pub struct Instance {
    pub id: InstanceId,
    pub account: AccountId,
    pub handle: Handle,
    pub(super) slot: Slot,
    address: SocketAddr,
    inner: std::sync::Weak<Inner>,
    status: watch::Sender<InstanceStatus>,
    /// Whether the status says awake: an atomic copy for callers that check it at every byte.
    up: AtomicBool,
    pub(super) work: WorkTally,
    /// When the reconciler should look again, in milliseconds; `i64::MAX` for never.
    pub(super) look_at_ms: AtomicI64,
    pub(super) state: Mutex<InstanceState>,
}

/// What the reconciler keeps in memory of an instance. Held only for moments, never across a wait.
pub(super) struct InstanceState {
    pub terms: InstanceSettings,
    /// What its terms come to.
    pub policy: SleepPolicy,
    /// Further ports that its owner opened.
    pub ports: PortList,
    pub upgrade: UpgradeProgress,
    /// Since when, and how, it is to sleep sooner than usual; over as soon as it is used again.
    pub under_pressure: Option<(Timestamp, MemoryPressure)>,
    /// The image of the container that is there.
    pub image_id: Option<String>,
    /// Whether this process has looked at all.
    pub looked: bool,
    /// The observed state, as last seen or made; `None`: observe before deciding.
    pub reality: Option<ObservedState>,
    /// The Engine's id of the container: the key of pooled connections, so that none outlives its container.
    pub container: Option<Arc<str>>,
    /// Whether the container answered since it was last started.
    pub ready: bool,
    pub token_hash: Option<Vec<u8>>,
    /// The fact that the database holds.
    pub written: Option<Fact>,
    /// When the wish was written.
    pub wished_at: Option<Timestamp>,
    /// Steps that failed in a row.
    pub failures: u32,
    /// Why it was last woken or put to sleep.
    pub cause: Option<Cause>,
    /// What it declared, by name.
    pub jobs: BTreeMap<String, DeclaredJob>,
}

impl Instance {
    pub(super) fn from_record(
        record: InstanceRecord,
        policy: SleepPolicy,
        address: SocketAddr,
        inner: std::sync::Weak<Inner>,
    ) -> Self {
        let status = Self::recorded_status(&record);
        // A wish that has come true is not the reason for what happens next.
        let came_true = record.fact_at > record.asked.at;
        let cause = if came_true { record.fact_cause } else { record.asked.cause };
        Self {
            id: record.id,
            account: record.account,
            handle: record.handle,
            slot: record.slot,
            address,
            inner,
            up: AtomicBool::new(status.fact == Fact::Awake),
            status: watch::Sender::new(status),
            work: WorkTally::new(record.active_at, record.last_work),
            look_at_ms: AtomicI64::new(0),
            state: Mutex::new(InstanceState {
                terms: record.terms,
                policy,
                ports: record.ports,
                upgrade: record.upgrade,
                under_pressure: None,
                image_id: None,
                token_hash: record.token_hash,
                wished_at: Some(record.asked.at),
                cause: Some(cause),
                written: Some(record.fact),
                looked: false,
                reality: None,
                container: None,
                ready: false,
                failures: 0,
                jobs: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn recorded_status(record: &InstanceRecord) -> InstanceStatus {
        InstanceStatus {
            wish: record.asked.wish,
            fact: record.fact,
            since: record.fact_at,
            cause: record.fact_cause,
            stage: WakeStage::Asked,
            failure: record.failure.clone(),
        }
    }

    /// The current status.
    #[must_use]
    pub fn status(&self) -> InstanceStatus {
        self.status.borrow().clone()
    }

    /// The fact alone, without copying the rest.
    #[must_use]
    pub fn fact(&self) -> Fact {
        self.status.borrow().fact
    }

    /// The status from now on, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<InstanceStatus> {
        self.status.subscribe()
    }

    /// How many watch the status: waiting requests and pages that show it.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.status.receiver_count()
    }

    /// The address that is this instance's alone for as long as it exists.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        match self.address {
            SocketAddr::V4(v4) => *v4.ip(),
            SocketAddr::V6(_) => unreachable!("bridges have IPv4 addresses"),
        }
    }

    /// Where its server listens.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// The Engine's id of the container that now stands behind [`Instance::socket`].
    #[must_use]
    pub fn container(&self) -> Option<Arc<str>> {
        self.with_state(|state| state.container.clone())
    }

    /// SHA-256 of the token that its container holds.
    #[must_use]
    pub fn token_hash(&self) -> Option<Vec<u8>> {
        self.with_state(|state| state.token_hash.clone())
    }

    /// Its image, its size, and what it has of its own.
    #[must_use]
    pub fn terms(&self) -> InstanceSettings {
        self.with_state(|state| state.terms.clone())
    }

    /// How soon it sleeps.
    #[must_use]
    pub fn policy(&self) -> SleepPolicy {
        self.with_state(|state| state.policy)
    }

    /// The ports that its owner opened.
    #[must_use]
    pub fn ports(&self) -> PortList {
        self.with_state(|state| state.ports.clone())
    }

    /// Whether its owner opened `port`.
    #[must_use]
    pub fn has_open(&self, port: u16) -> bool {
        self.with_state(|state| state.ports.contains(port))
    }

    /// Whether its owner opened any.
    #[must_use]
    pub fn has_open_ports(&self) -> bool {
        self.with_state(|state| !state.ports.is_empty())
    }

    pub(super) fn take_ports(&self, ports: PortList) {
        self.with_state(|state| state.ports = ports);
    }

    /// The memory pressure that shortens its idle timeout; `None` once the instance was active again.
    pub(super) fn pressure(&self) -> Option<MemoryPressure> {
        let active_at = self.active_at();
        self.with_state(|state| {
            state.under_pressure.filter(|(since, _)| *since >= active_at).map(|(_, pressure)| pressure)
        })
    }

    /// Makes it sleep as soon as nothing is in flight.
    pub(super) fn put_under_pressure(&self, at: Timestamp, pressure: MemoryPressure) {
        self.with_state(|state| state.under_pressure = Some((at, pressure)));
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Whether the container that is there is an older one than would be made now.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.with_state(|state| state.reality.is_some_and(|reality| reality.renewal != ContainerRenewal::Current))
    }

    /// When it was last used; while something holds it, when that began or later.
    #[must_use]
    pub fn active_at(&self) -> Timestamp {
        self.now().map_or(Timestamp(0), |now| self.work.idle_since(now))
    }

    /// Whether the status says awake. Without a lock, unlike [`Instance::is_awake`].
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Whether anybody uses it, or its `container` is at something by itself.
    pub(super) fn activity(&self, now: Timestamp, container: ContainerPhase) -> Activity {
        if let Some(until) = self.work.busy_until(now) {
            // No event announces that a job reached its limit or that a download ended, so a check is scheduled.
            self.look_at_ms.fetch_min(until.0, Ordering::SeqCst);
        }
        self.work.activity(now, container)
    }

    /// Whether something holds it awake now.
    pub(super) fn is_at_work(&self, now: Timestamp) -> bool {
        let container =
            self.with_state(|state| state.reality).map_or(ContainerPhase::Frozen, |reality| reality.container);
        self.work.activity(now, container) == Activity::Working
    }

    /// The present moment; `None` when the module was dropped.
    pub(super) fn now(&self) -> Option<Timestamp> {
        self.inner.upgrade().map(|inner| inner.clock.now())
    }

    /// `now`; or, when the clock was set back since the last wish, just after that: the later of two wishes counts.
    pub(super) fn after_all_wishes(&self, now: Timestamp) -> Timestamp {
        let last = self.with_state(|state| state.wished_at);
        last.map_or(now, |last| now.max(last.plus(std::time::Duration::from_millis(1))))
    }

    /// The clock was set back to `now`: nothing is noted for later than that, and everything is looked at again.
    pub(super) fn set_back_to(&self, now: Timestamp) {
        if self.work.idle_since(now) > now {
            self.work.forget_after(now);
        }
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Has the loop look when it has been idle long enough to sleep.
    pub(super) fn look_when_idle(&self) {
        if let Some(inner) = self.inner.upgrade() {
            let look_at = self.work.idle_since(inner.clock.now()).plus(self.policy().freeze_after);
            self.look_at_ms.fetch_min(look_at.0, Ordering::SeqCst);
        }
    }

    /// Changes the jobs it declared; they are work until the last of them is over.
    pub(super) fn change_jobs<T>(&self, change: impl FnOnce(&mut BTreeMap<String, DeclaredJob>) -> T) -> T {
        self.with_state(|state| {
            let changed = change(&mut state.jobs);
            self.work.declared(state.jobs.values().map(|job| job.until).max());
            changed
        })
    }

    pub(super) fn with_state<T>(&self, act: impl FnOnce(&mut InstanceState) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the status and tells the watchers, if `change` says that it changed something.
    pub(super) fn publish(&self, change: impl FnOnce(&mut InstanceStatus) -> bool) -> bool {
        self.status.send_if_modified(|status| {
            let changed = change(status);
            self.up.store(status.fact == Fact::Awake, Ordering::SeqCst);
            changed
        })
    }

    pub(super) fn wish(&self) -> Wish {
        self.status.borrow().wish
    }

    /// Takes a committed wish in: it is tried at once, whatever failed before. One that a later wish has overtaken
    /// changes nothing.
    pub(super) fn take_wish(&self, asked: WishRecord) {
        self.with_state(|state| {
            if Some(asked.at) < state.wished_at {
                return;
            }
            state.wished_at = Some(asked.at);
            state.cause = Some(asked.cause);
            state.failures = 0;
            self.publish(|status| std::mem::replace(&mut status.wish, asked.wish) != asked.wish);
        });
    }

    /// Takes in terms and upgrades that another process wrote.
    pub(super) fn take_terms(&self, terms: InstanceSettings, policy: SleepPolicy, upgrade: UpgradeProgress) {
        let changed = self.with_state(|state| {
            let changed = state.terms != terms || state.upgrade != upgrade;
            (state.terms, state.policy, state.upgrade) = (terms, policy, upgrade);
            changed
        });
        if changed {
            self.forget_reality();
        }
    }

    /// Forgets what was seen, so that the next step is to look.
    pub(super) fn forget_reality(&self) {
        self.with_state(|state| state.reality = None);
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Whether the container is known to run, so that a request may be tried.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.fact() == Fact::Awake
            && self.with_state(|state| {
                state.reality.is_none_or(|r| r.container == (ContainerPhase::Running { ready: true }))
            })
    }
}
