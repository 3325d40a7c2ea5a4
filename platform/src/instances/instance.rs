//! The in-memory state of one instance: a cache over its row, a status watch channel and its work tally. The edge and
//! Caddy's `ask` read it and never wait for the database.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use berth_containers::Slot;
use berth_ground::clock::{Clock, Timestamp};
use berth_ground::handle::Handle;
use tokio::sync::watch;

use super::rules::{
    Activity, Cause, ContainerPhase, ContainerRenewal, Fact, MemoryPressure, ObservedState, SleepPolicy, WakeStage,
    Wish,
};
use super::store::{InstanceRecord, UpgradeProgress, WishRecord};
use super::work::DeclaredJob;
use super::work_tally::WorkTally;
use super::{InstanceSettings, InstanceStatus, PortList};
use crate::db::{AccountId, InstanceId};

/// An instance: one account's container, volume, hostname and address.
pub struct Instance {
    pub id: InstanceId,
    pub account: AccountId,
    pub handle: Handle,
    pub(super) slot: Slot,
    address: SocketAddr,
    clock: Clock,
    status: watch::Sender<InstanceStatus>,
    /// Whether the status says awake: an atomic copy of the status for callers that check it for every chunk of a
    /// stream.
    up: AtomicBool,
    pub(super) work: WorkTally,
    /// Timer of the reconciler: when it should reconcile this instance again, in milliseconds; `i64::MAX` for never.
    pub(super) look_at_ms: AtomicI64,
    pub(super) state: Mutex<InstanceState>,
}

/// The reconciler's mutable state of an instance. Its mutex is held for short critical sections only and never across
/// an await. Lock order: the index of instances, this mutex, the status channel.
pub(super) struct InstanceState {
    pub settings: InstanceSettings,
    /// The sleep policy that results from `settings` and the size's defaults.
    pub policy: SleepPolicy,
    /// Additional ports that the owner opened.
    pub ports: PortList,
    pub upgrade: UpgradeProgress,
    /// The time and kind of the memory pressure that shortens the idle timeout; void once the instance is active after
    /// that time.
    pub under_pressure: Option<(Timestamp, MemoryPressure)>,
    /// The image id of the existing container.
    pub image_id: Option<String>,
    /// Whether this process has observed the container at least once.
    pub looked: bool,
    /// The observed state, or the state after a successful step; `None`: unknown, so the reconciler observes before it
    /// decides.
    pub observed: Option<ObservedState>,
    /// The engine's id of the container. It keys the connection pool, so that no pooled connection outlives its
    /// container.
    pub container: Option<Arc<str>>,
    /// Whether the container passed a readiness probe since it last started.
    pub ready: bool,
    /// SHA-256 of the token in the container's environment.
    pub token_hash: Option<Vec<u8>>,
    /// The last fact written to the database.
    pub written: Option<Fact>,
    /// When the cached wish was written: the version by which a stale wish is recognised.
    pub wished_at: Option<Timestamp>,
    /// Consecutive failed steps; the input of the backoff.
    pub failures: u32,
    /// Why the instance was last woken or put to sleep.
    pub cause: Option<Cause>,
    /// The jobs that the program inside declared, by name.
    pub jobs: BTreeMap<String, DeclaredJob>,
}

impl Instance {
    pub(super) fn from_record(record: InstanceRecord, policy: SleepPolicy, address: SocketAddr, clock: Clock) -> Self {
        let status = Self::recorded_status(&record);
        // The cause of a wish that has already come true must not be reported for the next transition.
        let came_true = record.fact_at > record.asked.at;
        let cause = if came_true { record.fact_cause } else { record.asked.cause };
        Self {
            id: record.id,
            account: record.account,
            handle: record.handle,
            slot: record.slot,
            address,
            clock,
            up: AtomicBool::new(status.fact == Fact::Awake),
            status: watch::Sender::new(status),
            work: WorkTally::new(record.active_at, record.last_work),
            look_at_ms: AtomicI64::new(0),
            state: Mutex::new(InstanceState {
                settings: record.settings,
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
                observed: None,
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

    /// The fact of the current status, without cloning the whole status.
    #[must_use]
    pub fn fact(&self) -> Fact {
        self.status.borrow().fact
    }

    /// Subscribes to the status. The receiver sees the latest value; values in between may be skipped (watch channel).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<InstanceStatus> {
        self.status.subscribe()
    }

    /// The number of subscribers to the status: held requests and event streams of pages.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.status.receiver_count()
    }

    /// The instance's address. No other instance has the same one while this instance exists.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        match self.address {
            SocketAddr::V4(v4) => *v4.ip(),
            SocketAddr::V6(_) => unreachable!("bridges have IPv4 addresses"),
        }
    }

    /// The address and port on which the program inside must listen.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// The engine's id of the container that currently listens on [`Instance::socket`].
    #[must_use]
    pub fn container(&self) -> Option<Arc<str>> {
        self.with_state(|state| state.container.clone())
    }

    /// SHA-256 of the token in its container's environment.
    #[must_use]
    pub fn token_hash(&self) -> Option<Vec<u8>> {
        self.with_state(|state| state.token_hash.clone())
    }

    /// The settings: image, size, and the idle timeouts that differ from the size's.
    #[must_use]
    pub fn settings(&self) -> InstanceSettings {
        self.with_state(|state| state.settings.clone())
    }

    /// The sleep policy: the idle timeouts.
    #[must_use]
    pub fn policy(&self) -> SleepPolicy {
        self.with_state(|state| state.policy)
    }

    /// The additional ports that its owner opened.
    #[must_use]
    pub fn ports(&self) -> PortList {
        self.with_state(|state| state.ports.clone())
    }

    /// Whether its owner opened `port`.
    #[must_use]
    pub fn has_open(&self, port: u16) -> bool {
        self.with_state(|state| state.ports.contains(port))
    }

    /// Whether its owner opened any additional port.
    #[must_use]
    pub fn has_open_ports(&self) -> bool {
        self.with_state(|state| !state.ports.is_empty())
    }

    pub(super) fn take_ports(&self, ports: PortList) {
        self.with_state(|state| state.ports = ports);
    }

    /// The memory pressure that shortens the idle timeout; `None` once the instance was active after the pressure
    /// began.
    pub(super) fn pressure(&self) -> Option<MemoryPressure> {
        let active_at = self.active_at();
        self.with_state(|state| {
            state.under_pressure.filter(|(since, _)| *since >= active_at).map(|(_, pressure)| pressure)
        })
    }

    /// Applies memory pressure: the instance sleeps as soon as no work is in flight.
    pub(super) fn put_under_pressure(&self, at: Timestamp, pressure: MemoryPressure) {
        self.with_state(|state| state.under_pressure = Some((at, pressure)));
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Whether the existing container differs from the one that would be created now.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.with_state(|state| state.observed.is_some_and(|observed| observed.renewal != ContainerRenewal::Current))
    }

    /// The time of the last activity. While work holds the instance awake, that is when the work began, or later.
    #[must_use]
    pub fn active_at(&self) -> Timestamp {
        self.work.idle_since(self.now())
    }

    /// Whether the status says awake. Lock-free, unlike [`Instance::is_awake`].
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Whether work is in flight, from outside or inside the container, given the observed state `container`. Also arms
    /// the reconciler's timer for the end of work that ends without an event.
    pub(super) fn activity(&self, now: Timestamp, container: ContainerPhase) -> Activity {
        if let Some(until) = self.work.busy_until(now) {
            // No event announces that a job expired or that a transfer stalled, so the next check is scheduled.
            self.look_at_ms.fetch_min(until.0, Ordering::SeqCst);
        }
        self.work.activity(now, container)
    }

    /// Whether work in flight keeps the instance awake at `now`.
    pub(super) fn is_at_work(&self, now: Timestamp) -> bool {
        let container =
            // An unknown state counts as frozen: memory exists and may be in use, which is the safe assumption for
            // eviction.
            self.with_state(|state| state.observed).map_or(ContainerPhase::Frozen, |observed| observed.container);
        self.work.activity(now, container) == Activity::Working
    }

    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A timestamp for the next wish: `now`, or 1 ms after the last wish when the clock was set back. Wishes are
    /// ordered by their timestamps (last write wins), so these must increase.
    pub(super) fn after_all_wishes(&self, now: Timestamp) -> Timestamp {
        let last = self.with_state(|state| state.wished_at);
        last.map_or(now, |last| now.max(last.plus(std::time::Duration::from_millis(1))))
    }

    /// Corrects recorded times after the clock was set back to `now`: activity in the future is moved to `now`, and the
    /// reconciler looks at the instance at once.
    pub(super) fn set_back_to(&self, now: Timestamp) {
        if self.work.idle_since(now) > now {
            self.work.forget_after(now);
        }
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Arms the reconciler's timer for the moment at which the idle timeout expires.
    pub(super) fn look_when_idle(&self) {
        let look_at = self.work.idle_since(self.clock.now()).plus(self.policy().freeze_after);
        self.look_at_ms.fetch_min(look_at.0, Ordering::SeqCst);
    }

    /// Changes the declared jobs and updates the work tally, under one lock: they count as work until the last of them
    /// expires.
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

    /// Changes the status, and notifies subscribers if `change` returns true.
    pub(super) fn publish(&self, change: impl FnOnce(&mut InstanceStatus) -> bool) -> bool {
        self.status.send_if_modified(|status| {
            let changed = change(status);
            // Inside the closure, which runs under the channel's lock: concurrent calls cannot leave the copy and the
            // status different.
            self.up.store(status.fact == Fact::Awake, Ordering::SeqCst);
            changed
        })
    }

    pub(super) fn wish(&self) -> Wish {
        self.status.borrow().wish
    }

    /// Applies a committed wish to the cache and resets the backoff, so that it is tried at once. A wish older than the
    /// cached one is ignored: commits may arrive here out of order.
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

    /// Applies settings and upgrade progress that another process wrote. A change invalidates the observed state.
    pub(super) fn replace_settings(&self, settings: InstanceSettings, policy: SleepPolicy, upgrade: UpgradeProgress) {
        let changed = self.with_state(|state| {
            let changed = state.settings != settings || state.upgrade != upgrade;
            (state.settings, state.policy, state.upgrade) = (settings, policy, upgrade);
            changed
        });
        if changed {
            self.forget_reality();
        }
    }

    /// Invalidates the observed state, so that the reconciler observes the container before it decides.
    pub(super) fn forget_reality(&self) {
        self.with_state(|state| state.observed = None);
        self.look_at_ms.store(0, Ordering::SeqCst);
    }

    /// Whether the container is known to run, so that a request may be forwarded to it.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.fact() == Fact::Awake
            && self.with_state(|state| {
                state.observed.is_none_or(|r| r.container == (ContainerPhase::Running { ready: true }))
            })
    }
}
