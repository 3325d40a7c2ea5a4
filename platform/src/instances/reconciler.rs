//! The loop that makes facts follow wishes: nudged by wishes, by the container engine's events and by the clock.
//!
//! It takes no input but ids to look at. Each instance is driven by at most one task at a time, and a step that hangs
//! holds up nobody else. Nothing is retried inside: a failure sets when to look again, and looking again is the retry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::rules::{Container, Fact, Reality};
use super::{Instance, Instances};
use crate::clock::Timestamp;
use crate::containers::{ContainerState, Seen};
use crate::db::InstanceId;
use crate::secrets::hex;

/// How often everything is compared with what is really there, in case an event was lost.
const FULL_ROUND: Duration = Duration::from_secs(30);
/// How often instances are checked for having been idle long enough, or failed long enough ago.
const TICK: Duration = Duration::from_millis(500);
/// How long a container that no row knows must be there, and be seen twice, before it is taken away.
const ORPHAN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Who is being driven, and who asked to be.
#[derive(Default)]
pub(super) struct Rounds {
    /// Driven now; true when nudged meanwhile.
    driving: Mutex<HashMap<InstanceId, bool>>,
    quiet: Notify,
    /// Only the process that runs the loop drives; the operator's commands write wishes and leave the rest to it.
    begun: AtomicBool,
    orphans: Mutex<HashMap<InstanceId, Timestamp>>,
}

impl Instances {
    /// Makes the networks, compares every instance with what is really there and brings each to rest, before
    /// anything listens. An engine that does not answer is not an error: pages still work, and the loop goes on trying.
    ///
    /// # Errors
    /// When the database is empty although containers of this installation are there: then it is the wrong database.
    pub async fn begin(&self) -> anyhow::Result<()> {
        self.0.rounds.begun.store(true, Ordering::SeqCst);
        let seen = match self.0.host.list().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(error = %error, "the container engine does not answer; instances sleep until it does");
                return Ok(());
            }
        };
        anyhow::ensure!(
            seen.is_empty() || !self.all().is_empty(),
            "The database knows no instance, but {} of this installation are there. Is DATABASE_URL or BERTH_DATA_DIR the right one? \
             To run a second installation, set BERTH_NETWORK.",
            seen.len()
        );
        let now = self.0.clock.now();
        for instance in self.all() {
            if seen.iter().any(|s| s.instance == instance.id && is_running(s)) {
                // What was in use when the last process ended is not known: it gets the benefit of the doubt.
                instance.touch(now);
            }
        }
        self.compare(&seen).await;
        self.settled().await;
        Ok(())
    }

    /// Runs the loop until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut full = tokio::time::interval(FULL_ROUND);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let events = tokio::spawn(self.clone().follow_events(shutdown.clone()));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = full.tick() => {
                    let this = self.clone();
                    tokio::spawn(async move { this.round().await });
                }
                _ = tick.tick() => self.look_at_due(),
            }
        }
        events.abort();
        self.settled().await;
    }

    /// One full comparison. Public so that whoever moves a manual clock can have its effect now.
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

    /// Waits until nobody is being driven.
    pub async fn settled(&self) {
        loop {
            let quiet = self.0.rounds.quiet.notified();
            if self.driving(|driving| driving.is_empty()) {
                return;
            }
            quiet.await;
        }
    }

    /// Asks for the instance to be looked at soon. Cheap, and never lost: one that is being driven is driven once more.
    pub(super) fn nudge(&self, id: InstanceId) {
        if !self.0.rounds.begun.load(Ordering::SeqCst) {
            return;
        }
        let begins = self.driving(|driving| {
            driving.get_mut(&id).map(|again| *again = true).is_none() && driving.insert(id, false).is_none()
        });
        let Some(instance) = self.by_id(id).filter(|_| begins) else {
            if begins {
                self.driving(|driving| driving.remove(&id));
            }
            return;
        };
        tokio::spawn(self.clone().drive_until_rest(instance));
    }

    async fn drive_until_rest(self, instance: Arc<Instance>) {
        loop {
            // A task of its own, so that a panic in one step is one instance's failure and not a lost nudge.
            let (this, driven) = (self.clone(), Arc::clone(&instance));
            if let Err(panic) = tokio::spawn(async move { this.drive(&driven).await }).await {
                tracing::error!(instance.id = %instance.id, error = %panic, "driving an instance ended in a panic");
            }
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

    /// Compares what is really there with what is remembered, and nudges whatever differs or waits.
    async fn compare(&self, seen: &[Seen]) {
        let there: HashMap<InstanceId, &Seen> = seen.iter().map(|s| (s.instance, s)).collect();
        for instance in self.all() {
            let nothing = Seen { instance: instance.id, volume: false, container: None };
            let seen = there.get(&instance.id).copied().unwrap_or(&nothing);
            // One that is being driven is in the middle of changing; its driver looks for itself.
            if !self.driving(|driving| driving.contains_key(&instance.id)) {
                self.note(&instance, seen);
                self.nudge(instance.id);
            }
        }
        self.take_orphans_away(seen).await;
    }

    /// Takes in what was seen. A container that ended by itself stays so until somebody wants it again.
    pub(super) fn note(&self, instance: &Arc<Instance>, seen: &Seen) {
        let reality = instance.with_mind(|mind| {
            let same = mind.container.as_deref() == seen.container.as_ref().map(|c| c.id.as_str());
            let stopped = seen.container.as_ref().is_none_or(|c| c.state == ContainerState::Stopped);
            mind.ready &= same && !stopped;
            let container = container(seen, mind.token_hash.as_deref(), &instance.image, mind.ready);
            let reality = Reality { volume: seen.volume, container };
            mind.container = seen.container.as_ref().map(|c| Arc::from(c.id.as_str()));
            mind.reality = Some(reality);
            reality
        });
        if instance.fact() == Fact::Awake && matches!(reality.container, Container::Stopped | Container::None) {
            let now = self.0.clock.now();
            instance.set_active_at(now.minus(self.0.policy.stop_after));
            tracing::warn!(instance.id = %instance.id, handle = %instance.handle, exit = ?seen.container.as_ref().and_then(|c| c.exit), "an instance ended by itself");
        }
    }

    fn look_at_due(&self) {
        let now = self.0.clock.now();
        for instance in self.known(|known| known.by_id.values().cloned().collect::<Vec<_>>()) {
            if instance.look_at_ms.load(Ordering::SeqCst) <= now.0 {
                self.nudge(instance.id);
            }
        }
    }

    async fn follow_events(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Ok(mut events) = self.0.host.events().await {
                // Whatever happened before the stream was open is found by looking at everything once.
                self.forgive();
                self.round().await;
                while let Some(id) = events.next().await {
                    // Our own steps make events too: then the driver is at work and knows more than the event.
                    if let Some(instance) = self.by_id(id).filter(|_| !self.driving(|d| d.contains_key(&id))) {
                        instance.forget_reality();
                        self.nudge(id);
                    }
                }
                tracing::warn!("the container engine's events ended; listening again");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The engine is back: what failed for want of it is tried at once.
    fn forgive(&self) {
        for instance in self.all() {
            instance.with_mind(|mind| mind.failures = 0);
        }
    }

    /// Two strikes: a container of ours that no row knows is remembered, and taken away when it is still there and
    /// still unknown long after. Its volume stays.
    async fn take_orphans_away(&self, seen: &[Seen]) {
        let now = self.0.clock.now();
        let unknown: HashSet<InstanceId> = seen
            .iter()
            .filter(|s| s.container.is_some() && self.by_id(s.instance).is_none())
            .map(|s| s.instance)
            .collect();
        let due: Vec<InstanceId> = {
            let mut orphans = self.0.rounds.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            orphans.retain(|id, _| unknown.contains(id));
            for id in unknown {
                orphans.entry(id).or_insert(now);
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
        // Another process may have made the row since this one read its instances.
        if super::store::find(&self.0.db, id).await.context("looking for the row")?.is_some() {
            self.admit(id).await.context("admitting the instance")?;
            return Ok(false);
        }
        self.0.host.remove_container(id).await?;
        Ok(true)
    }

    fn driving<T>(&self, look: impl FnOnce(&mut HashMap<InstanceId, bool>) -> T) -> T {
        look(&mut self.0.rounds.driving.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_running(seen: &Seen) -> bool {
    seen.container.as_ref().is_some_and(|c| c.state == ContainerState::Running)
}

/// What was seen, as a decision needs it.
fn container(seen: &Seen, token_hash: Option<&[u8]>, image: &str, ready: bool) -> Container {
    let Some(found) = &seen.container else { return Container::None };
    let known = token_hash.is_some_and(|hash| found.token_hash == hex(hash)) && found.image == image;
    match found.state {
        // A container whose token the ledger does not know can do nothing for its owner.
        _ if !known => Container::Outdated,
        ContainerState::Stopped => Container::Stopped,
        ContainerState::Frozen => Container::Frozen,
        ContainerState::Running => Container::Running { ready },
    }
}
