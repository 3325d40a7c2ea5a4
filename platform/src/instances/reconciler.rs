//! The reconciler: the level-triggered control loop that makes facts follow wishes, on nudges by wishes, on the
//! container engine's events and on timers.
//!
//! Its only input is ids of instances to reconcile; events carry no state. Each instance is driven by at most one task
//! at a time (single flight), so a step that hangs does not delay other instances. A failed step is not retried inside
//! the task: it schedules the next attempt with a backoff.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use berth_containers::{ContainerState, ObservedContainer, ObservedInstance};
use berth_ground::clock::Timestamp;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::instance::InstanceState;
use super::rules::{ContainerPhase, ContainerRenewal, Fact, ObservedState};
use super::{Instance, Instances};
use crate::db::InstanceId;

/// Interval of the full resync: every instance is compared with the state observed on the host, in case an event was
/// lost.
const FULL_ROUND: Duration = Duration::from_secs(30);
/// Interval at which the instances' timers (idle timeout, backoff) are checked.
const TICK: Duration = Duration::from_millis(500);
/// How long an orphan, a container without a row, must exist between the first and the second sighting before it is
/// removed.
const ORPHAN_AFTER: Duration = Duration::from_secs(10 * 60);

const WRONG_DATABASE: &str = "The database knows no instance, but some of this installation are there. Is DATABASE_URL or \
     BERTH_DATA_DIR the right one? To run a second installation, set BERTH_NETWORK.";
/// How long startup and shutdown wait for instances in transient states.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

impl Instances {
    /// Startup: compares every instance with the state observed on the host and brings each to rest before the server
    /// listens, except those that need longer than a few seconds. An engine that does not answer is not an error: pages
    /// still work, and the first successful resync does the same.
    ///
    /// # Errors
    /// When the database is empty although containers of this installation exist: it is the wrong database then.
    pub async fn begin(&self) -> anyhow::Result<()> {
        self.0.rounds.begun.store(true, Ordering::SeqCst);
        let seen = match self.0.host.list().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(error = %error, "the container engine does not answer; instances sleep until it does");
                return Ok(());
            }
        };
        anyhow::ensure!(seen.is_empty() || !self.all().is_empty() || !self.0.set_aside.is_empty(), "{WRONG_DATABASE}");
        self.compare(&seen).await;
        self.settle_within_patience().await;
        Ok(())
    }

    /// Runs the loop until `shutdown`, then waits a few seconds for the steps in flight.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut full = tokio::time::interval(FULL_ROUND);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let events = tokio::spawn(self.clone().follow_events());
        let load = tokio::spawn(self.clone().follow_load());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = full.tick() => {
                    // In a task of its own: a slow engine must not delay the timers.
                    let this = self.clone();
                    tokio::spawn(async move { this.round().await });
                }
                _ = tick.tick() => self.look_at_due(),
            }
        }
        events.abort();
        load.abort();
        self.settle_within_patience().await;
    }

    /// Waits with a timeout until no instance is being driven. A step that takes longer continues in the background, or
    /// is resumed at the next start.
    async fn settle_within_patience(&self) {
        if tokio::time::timeout(SETTLE_TIMEOUT, self.settled()).await.is_err() {
            let under_way = self.driving(|driving| driving.len());
            tracing::warn!(under_way, "going on although some instances are still on their way");
        }
    }

    /// One full resync. Public so that code that advances a manual clock can trigger it at once.
    pub async fn round(&self) {
        if let Err(error) = self.admit_newer().await {
            tracing::warn!(error = ?error, "a round without looking for newer wishes: the database does not answer");
        }
        match self.0.host.list().await {
            Ok(seen) => self.compare(&seen).await,
            Err(error) => tracing::warn!(error = %error, "skipping a round: the container engine does not answer"),
        }
        self.look_at_due();
    }

    /// Waits until no instance is being driven.
    pub async fn settled(&self) {
        loop {
            // Subscribed before the check: a task that ends between the two would otherwise be missed.
            let quiet = self.0.rounds.quiet.notified();
            if self.driving(|driving| driving.is_empty()) {
                return;
            }
            quiet.await;
        }
    }

    /// Requests that the instance be reconciled soon. Cheap and never lost: nudges of an instance that is being driven
    /// coalesce into one more pass.
    pub(super) fn nudge(&self, instance: &Arc<Instance>) {
        if !self.0.rounds.begun.load(Ordering::SeqCst) {
            return;
        }
        let begins = self.driving(|driving| match driving.entry(instance.id) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                false
            }
            Entry::Vacant(nobody) => {
                nobody.insert(false);
                true
            }
        });
        if begins {
            tokio::spawn(self.clone().drive_until_rest(Arc::clone(instance)));
        }
    }

    async fn drive_until_rest(self, instance: Arc<Instance>) {
        loop {
            // A task for each pass, so that a panic in a step fails one instance and loses no nudge.
            let (this, driven) = (self.clone(), Arc::clone(&instance));
            if let Err(panic) = tokio::spawn(async move { this.drive(&driven).await }).await {
                tracing::error!(instance.id = %instance.id, error = %panic, "driving an instance ended in a panic");
            }
            // Check and removal under one lock: a nudge arrives either before, and causes another pass, or after, and
            // starts a new task.
            let over = self.driving(|driving| match driving.get_mut(&instance.id) {
                Some(again) if *again => {
                    *again = false;
                    false
                }
                _ => {
                    driving.remove(&instance.id);
                    true
                }
            });
            if over {
                self.0.rounds.quiet.notify_waiters();
                return;
            }
        }
    }

    /// Compares the state observed on the host with the cached state, and nudges every instance. The list is stale by
    /// the time it arrives, so it only invalidates: where it differs, the driver observes the instance again.
    async fn compare(&self, seen: &[ObservedInstance]) {
        let there: HashMap<InstanceId, &ObservedInstance> = seen.iter().map(|s| (s.instance, s)).collect();
        for instance in self.all() {
            let nothing = ObservedInstance { instance: instance.id, volume: false, container: None };
            let seen = there.get(&instance.id).copied().unwrap_or(&nothing);
            instance.with_state(|state| {
                if state.container.as_deref() != container_id(seen)
                    || state.observed != Some(observed_state(state, seen))
                {
                    state.observed = None;
                }
            });
            self.nudge(&instance);
        }
        self.take_orphans_away(seen).await;
    }

    /// Caches the state that the driver observed. A container that exited by itself stays stopped until the next
    /// activity.
    pub(super) fn note(&self, instance: &Arc<Instance>, seen: &ObservedInstance) -> ObservedState {
        let now = self.0.clock.now();
        let observed = instance.with_state(|state| {
            if !std::mem::replace(&mut state.looked, true) && is_running(seen) {
                // Which connections were open when the last process ended is unknown, so startup counts as activity.
                instance.work.touch(now);
            }
            // Readiness belongs to one run of one container: another id or a stop ends it.
            let stopped = seen.container.as_ref().is_none_or(|c| c.state == ContainerState::Stopped);
            state.ready &= state.container.as_deref() == container_id(seen) && !stopped;
            state.container = container_id(seen).map(Arc::from);
            state.image_id = seen.container.as_ref().map(|c| c.image_id.clone());
            *state.observed.insert(observed_state(state, seen))
        });
        if instance.fact() == Fact::Awake
            && matches!(observed.container, ContainerPhase::Stopped | ContainerPhase::None)
        {
            // Backdated past the stop timeout: otherwise the last activity would start a crashed program again at once,
            // in a loop.
            instance.work.forget_after(now.minus(instance.policy().stop_after));
            tracing::warn!(instance.id = %instance.id, handle = %instance.handle, exit = ?seen.container.as_ref().and_then(|c| c.exit), "an instance ended by itself");
        }
        observed
    }

    fn look_at_due(&self) {
        let now = self.0.clock.now();
        let set_back = now.0 < self.0.rounds.looked_at_ms.swap(now.0, Ordering::SeqCst);
        for instance in self.known(|known| known.by_id.values().cloned().collect::<Vec<_>>()) {
            if set_back {
                instance.set_back_to(now);
            }
            if instance.look_at_ms.load(Ordering::SeqCst) <= now.0 {
                self.nudge(&instance);
            }
        }
    }

    /// Follows the engine's event stream until the task is aborted, and reopens it after it ends.
    async fn follow_events(self) {
        loop {
            if let Ok(mut events) = self.0.host.events().await {
                // Events before the stream was open are lost, so a full resync follows.
                self.reset_failures();
                self.round().await;
                while let Some(id) = events.next().await {
                    // Steps of the platform cause events too. While an instance is driven its driver's state is newer
                    // than the event.
                    if let Some(instance) = self.by_id(id).filter(|_| !self.driving(|d| d.contains_key(&id))) {
                        instance.forget_reality();
                        self.nudge(&instance);
                    }
                }
                tracing::warn!("the container engine's events ended; listening again");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Resets every backoff, because the engine answers again.
    fn reset_failures(&self) {
        for instance in self.all() {
            instance.with_state(|state| state.failures = 0);
        }
    }

    /// Removes orphans with a two-strike rule: a container of this installation without a row is remembered, and
    /// removed only if it still exists and still has no row after [`ORPHAN_AFTER`]. Its volume is kept.
    async fn take_orphans_away(&self, seen: &[ObservedInstance]) {
        let now = self.0.clock.now();
        let unknown: HashSet<InstanceId> = seen
            .iter()
            .filter(|s| s.container.is_some() && self.by_id(s.instance).is_none())
            .filter(|s| !self.0.set_aside.contains(&s.instance))
            .map(|s| s.instance)
            .collect();
        // Containers found while the database is empty belong to another database: they never become due for removal,
        // not even after a sign-up.
        let nobody_known = self.known(|known| known.by_id.is_empty());
        if nobody_known && !unknown.is_empty() {
            tracing::error!(containers = unknown.len(), "{WRONG_DATABASE}");
        }
        let first = if nobody_known { Timestamp(i64::MAX) } else { now };
        let due: Vec<InstanceId> = {
            let mut orphans = self.0.rounds.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            orphans.retain(|id, _| unknown.contains(id));
            for id in unknown {
                orphans.entry(id).or_insert(first);
            }
            orphans.iter().filter(|(_, first)| now.since(**first) >= ORPHAN_AFTER).map(|(id, _)| *id).collect()
        };
        for id in due {
            match self.take_orphan_away(id).await {
                Ok(true) => {
                    tracing::warn!(instance.id = %id, "removed a container that no account knows; its volume is kept")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(instance.id = %id, error = %format!("{error:#}"), "could not remove an orphan")
                }
            }
        }
    }

    async fn take_orphan_away(&self, id: InstanceId) -> anyhow::Result<bool> {
        // Another process may have created the row since this process read its rows.
        if super::store::find(&self.0.db, id).await.context("looking for the row")?.is_some() {
            self.load_committed(id).await.context("admitting the instance")?;
            return Ok(false);
        }
        self.0.host.remove_container(id).await?;
        Ok(true)
    }

    fn driving<T>(&self, look: impl FnOnce(&mut HashMap<InstanceId, bool>) -> T) -> T {
        look(&mut self.0.rounds.driving.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn container_id(seen: &ObservedInstance) -> Option<&str> {
    seen.container.as_ref().map(|container| container.id.as_str())
}

fn is_running(seen: &ObservedInstance) -> bool {
    seen.container.as_ref().is_some_and(|c| c.state == ContainerState::Running)
}

/// Reduces an observation to the state that [`super::rules::decide`] needs.
fn observed_state(state: &InstanceState, seen: &ObservedInstance) -> ObservedState {
    let known = |found: &ObservedContainer| {
        state.token_hash.as_deref().is_some_and(|hash| found.token_hash == hex::encode(hash))
    };
    let container = match &seen.container {
        None => ContainerPhase::None,
        // A container with an unknown token cannot authenticate for its owner.
        Some(found) if !known(found) => ContainerPhase::Outdated { stopped: found.state == ContainerState::Stopped },
        Some(found) => match found.state {
            ContainerState::Stopped => ContainerPhase::Stopped,
            ContainerState::Frozen => ContainerPhase::Frozen,
            ContainerState::Running => ContainerPhase::Running { ready: state.ready },
        },
    };
    let renewal = seen.container.as_ref().map_or(ContainerRenewal::Current, |found| renewal(state, found));
    ObservedState { volume: seen.volume, container, renewal }
}

/// Whether `found` should be replaced, and when.
pub(super) fn renewal(state: &InstanceState, found: &ObservedContainer) -> ContainerRenewal {
    let upgrade = &state.upgrade;
    let (before, refused) = (upgrade.image_before.as_ref(), upgrade.image_refused.as_ref());
    if refused == Some(&found.image_id) && before.is_some_and(|before| *before != found.image_id) {
        return ContainerRenewal::RollBack;
    }
    let changed = !found.current || found.image != state.settings.image || found.size != state.settings.size;
    // An image that did not become ready is not tried again, unless another image was requested since.
    if !changed || (found.image == state.settings.image && refused == Some(&found.newest_image_id)) {
        ContainerRenewal::Current
    } else if found.made_at < upgrade.renew_at {
        ContainerRenewal::Now
    } else {
        ContainerRenewal::AtNextStart
    }
}
