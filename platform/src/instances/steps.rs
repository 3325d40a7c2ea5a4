//! The executor of the reconciler: performs one decided step at a time, publishes the status, and persists the fact.
//! After a failure it schedules a retry with backoff.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use berth_containers::{ContainerSpec, HostError};
use berth_ground::clock::Timestamp;
use berth_ground::error::Error;
use berth_ground::secrets::Token;

use super::rules::{
    self, Cause, ContainerPhase, ContainerRenewal, Fact, NextStep, ObservedState, WakeStage, Wish, decide,
};
use super::store::{FactRecord, UpgradeProgress};
use super::{Instance, InstanceSettings, Instances, readiness, store};

/// Maximum number of steps in one pass, more than any path of [`decide`] needs. It prevents a livelock when the
/// observed state changes faster than steps can follow.
const STEPS: usize = 16;

const NO_MEMORY: &str =
    "The server has no memory free just now. Others are being put to sleep to make room; Berth keeps trying.";

/// Why a step failed.
#[derive(Debug)]
pub(super) enum StepFailure {
    Host(HostError),
    /// The program did not become ready; the text is the reason for the owner.
    NotReady(String),
    /// The host has no free memory to start the instance.
    NoMemory,
    /// A read or write of the database failed.
    Database(Error),
}

impl Instances {
    /// Takes steps until the instance is at rest or a step fails.
    pub(super) async fn drive(&self, instance: &Arc<Instance>) {
        let now = self.0.clock.now();
        // The backoff: nudges by visits and full rounds do not shorten it.
        if instance.fact() == Fact::Failed
            && instance.look_at_ms.load(Ordering::SeqCst) > now.0
            && !was_asked_anew(instance)
        {
            return;
        }
        for _ in 0..STEPS {
            match self.step(instance).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) if self.must_roll_back(instance, &failure).await => {}
                Err(failure) => return self.fail(instance, failure).await,
            }
        }
        self.look_again(instance, self.0.clock.now().plus(rules::pause_after(1)));
    }

    /// Takes one step; `false` when the instance is at rest.
    async fn step(&self, instance: &Arc<Instance>) -> Result<bool, StepFailure> {
        let observed = match instance.with_state(|state| state.observed) {
            Some(observed) => observed,
            None => self.look(instance).await?,
        };
        // The timer is cleared before the activity is read: work that ends afterwards sets the timer itself, and that
        // must not be overwritten.
        instance.look_at_ms.store(i64::MAX, Ordering::SeqCst);
        let (wish, activity) = (instance.wish(), instance.activity(self.0.clock.now(), observed.container));
        let step = decide(wish, observed, activity, instance.policy().under_pressure(instance.pressure()));
        let cause = self.cause(instance, step, observed);
        if let Some(fact) = under_way(step) {
            self.show(instance, fact, cause, stage_before(step));
        }
        if matches!(step, NextStep::Freeze | NextStep::Stop) && matches!(cause, Cause::Idle | Cause::Pressure) {
            // Work that begins while the freeze or stop is in flight wakes the instance again without a wish, so the
            // cause of that wake is set here.
            instance.with_state(|state| state.cause = Some(Cause::Visit));
        }
        if !matches!(step, NextStep::Rest(_)) {
            // The step's effect is unknown until it succeeds: after a failure or a panic the container is observed
            // again.
            instance.with_state(|state| state.observed = None);
        }
        let container = match step {
            NextStep::MakeVolume => {
                self.0.host.ensure_volume(instance.id, &instance.settings().size).await?;
                observed.container
            }
            NextStep::MakeContainer => {
                self.make_container(instance).await?;
                // The new container's id is not known yet, so the next step observes it.
                return Ok(true);
            }
            NextStep::Upgrade => {
                self.upgrade_container(instance).await?;
                return Ok(true);
            }
            NextStep::RollBack => {
                self.roll_back(instance).await?;
                return Ok(true);
            }
            NextStep::Start => {
                self.forget_jobs(instance).await?;
                let _turn = self.await_start_permit().await.ok_or(StepFailure::NoMemory)?;
                self.0.host.start(instance.id).await?;
                ContainerPhase::Running { ready: false }
            }
            NextStep::AwaitReady => ContainerPhase::Running { ready: self.await_ready(instance, wish).await? },
            NextStep::Freeze => {
                self.0.host.freeze(instance.id).await?;
                ContainerPhase::Frozen
            }
            NextStep::Thaw => {
                self.0.host.thaw(instance.id).await?;
                // A pause does not change readiness. A container found frozen at startup may never have been ready.
                ContainerPhase::Running { ready: instance.with_state(|state| state.ready) }
            }
            NextStep::Stop => {
                self.0.host.stop(instance.id).await?;
                match observed.container {
                    ContainerPhase::Outdated { .. } => ContainerPhase::Outdated { stopped: true },
                    _ => ContainerPhase::Stopped,
                }
            }
            NextStep::RemoveContainer => {
                self.0.host.remove_container(instance.id).await?;
                ContainerPhase::None
            }
            NextStep::Rest(until) => {
                instance.with_state(|state| state.failures = 0);
                if let Some(wait) = until {
                    instance.look_at_ms.fetch_min(self.0.clock.now().plus(wait).0, Ordering::SeqCst);
                }
                if observed.container == (ContainerPhase::Running { ready: true }) {
                    self.end_upgrade(instance).await?;
                }
                self.settle(instance, wish, observed).await?;
                return Ok(false);
            }
        };
        let volume = observed.volume || step == NextStep::MakeVolume;
        instance.with_state(|state| {
            state.observed = Some(ObservedState { volume, container, ..observed });
            state.ready = container == (ContainerPhase::Running { ready: true })
                || (state.ready && container == ContainerPhase::Frozen);
        });
        if let ContainerPhase::Running { ready: true } = container {
            // Waiters are notified before the fact is persisted, so a wake does not wait for the disk. After a crash in
            // between, startup observes the container.
            self.show(instance, Fact::Awake, self.cause(instance, step, observed), WakeStage::Ready);
        }
        Ok(true)
    }

    async fn look(&self, instance: &Arc<Instance>) -> Result<ObservedState, StepFailure> {
        let seen = self.0.host.inspect(instance.id).await?;
        Ok(self.note(instance, &seen))
    }

    /// Creates the container with a new token. The token's hash is committed first: a crash in between leaves a
    /// container with an unknown token, which is recognised as outdated and replaced.
    async fn make_container(&self, instance: &Arc<Instance>) -> Result<(), StepFailure> {
        let upgrade = instance.with_state(|state| state.upgrade.clone());
        self.make_container_of(instance, upgrade, None).await
    }

    /// Creates a container from the named image, or from `image_id` for a rollback. Token and upgrade progress commit
    /// together before the engine is called.
    pub(super) async fn make_container_of(
        &self,
        instance: &Arc<Instance>,
        upgrade: UpgradeProgress,
        image_id: Option<String>,
    ) -> Result<(), StepFailure> {
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        store::set_token(&tx, instance.id, &token.hash()).await?;
        store::set_upgrade(&tx, instance.id, &upgrade).await?;
        tx.commit().await?;
        instance.with_state(|state| state.upgrade = upgrade);
        self.learn_token(instance, token.hash());
        let InstanceSettings { image, size, .. } = instance.settings();
        let spec = ContainerSpec {
            instance: instance.id,
            slot: instance.slot,
            image,
            image_id,
            size,
            handle: instance.handle.to_string(),
            url: self.0.hosts.instance_origin(&instance.handle),
            token: token.reveal().to_owned(),
        };
        Ok(self.0.host.create(&spec).await?)
    }

    /// Waits for readiness; `false` when the wish changed meanwhile, because the new wish may need another step.
    async fn await_ready(&self, instance: &Arc<Instance>, wish: Wish) -> Result<bool, StepFailure> {
        let mut status = instance.watch();
        tokio::select! {
            ready = readiness::await_ready(instance.socket(), self.0.ready_within) => {
                if ready { return Ok(true) }
                Err(StepFailure::NotReady("It was started but does not answer on its port. Its own log may say why.".into()))
            }
            exit = self.await_exit(instance) => Err(StepFailure::NotReady(exit)),
            _ = status.wait_for(|status| status.wish != wish) => Ok(false),
        }
    }

    /// Polls a starting container and returns the reason for the owner once it has exited.
    async fn await_exit(&self, instance: &Arc<Instance>) -> String {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(500));
        pause.tick().await;
        loop {
            pause.tick().await;
            let Ok(seen) = self.0.host.inspect(instance.id).await else { continue };
            match seen.container.and_then(|c| c.exit) {
                Some(exit) if exit.out_of_memory => {
                    return "It used more memory than its limit while starting and was ended.".into();
                }
                Some(exit) => return format!("Its program ended with code {} while starting.", exit.code),
                None => {}
            }
        }
    }

    /// Publishes the fact at rest, and persists it if it differs from the last persisted one.
    async fn settle(&self, instance: &Arc<Instance>, wish: Wish, observed: ObservedState) -> Result<(), StepFailure> {
        let fact = at_rest(wish, observed);
        // Declared jobs end with their container, whether the platform stopped it or it ended by itself.
        if !matches!(observed.container, ContainerPhase::Running { .. } | ContainerPhase::Frozen) {
            self.forget_jobs(instance).await?;
        }
        let from = self.written(instance);
        self.show(
            instance,
            fact,
            self.cause_at_rest(instance, fact),
            if fact == Fact::Awake { WakeStage::Ready } else { WakeStage::Asked },
        );
        if from == fact {
            return Ok(());
        }
        self.write(instance, from).await?;
        let status = instance.status();
        tracing::info!(instance.id = %instance.id, handle = %instance.handle, from = from.as_str(), to = fact.as_str(), cause = status.cause.as_str(), "instance changed");
        Ok(())
    }

    async fn fail(&self, instance: &Arc<Instance>, failure: StepFailure) {
        let failures = instance.with_state(|state| {
            state.observed = None;
            state.failures += 1;
            state.failures
        });
        self.look_again(instance, self.0.clock.now().plus(rules::pause_after(failures)));
        let (message, detail) = match failure {
            StepFailure::Host(error) => (error.message_for_user().to_owned(), error.to_string()),
            StepFailure::NotReady(message) => (message.clone(), message),
            StepFailure::NoMemory => (NO_MEMORY.to_owned(), "the host has no memory free".to_owned()),
            StepFailure::Database(error) => {
                ("Berth cannot reach its database just now, and keeps trying.".into(), format!("{error:?}"))
            }
        };
        tracing::warn!(instance.id = %instance.id, handle = %instance.handle, failures, error = %detail, "an instance's step failed");
        let from = self.written(instance);
        let told = instance.publish(|status| {
            // The first failure after a new wish is published even with an unchanged message: waiters of that wish need
            // a result.
            let changed = failures == 1 || status.fact != Fact::Failed || status.failure.as_ref() != Some(&message);
            if changed {
                status.since = self.0.clock.now();
            }
            status.fact = Fact::Failed;
            status.cause = Cause::Failure;
            status.failure = Some(message);
            changed
        });
        // Persisted only when published: a failure that repeats writes no row and adds no transition.
        if told && let Err(error) = self.write(instance, from).await {
            tracing::warn!(instance.id = %instance.id, error = ?error, "could not write down that a step failed");
        }
    }

    /// Publishes a status to subscribers. Does not persist it: see [`Instances::settle`].
    fn show(&self, instance: &Arc<Instance>, fact: Fact, cause: Cause, stage: WakeStage) {
        let now = self.0.clock.now();
        instance.publish(|status| {
            let changed = status.fact != fact || status.stage != stage || status.failure.is_some();
            if status.fact != fact {
                status.since = now;
                status.cause = cause;
            }
            status.fact = fact;
            status.stage = stage;
            status.failure = None;
            changed
        });
    }

    /// Persists the published fact with the transition from `from`, in one transaction.
    async fn write(&self, instance: &Arc<Instance>, from: Fact) -> Result<(), Error> {
        let status = instance.status();
        let tx = self.0.db.begin().await?;
        let fact = FactRecord {
            before: from,
            status: &status,
            active_at: instance.work.idle_since(self.0.clock.now()),
            last_work: instance.work.last(),
        };
        store::set_fact(&tx, instance.id, fact, &self.0.clock).await?;
        tx.commit().await?;
        instance.with_state(|state| state.written = Some(status.fact));
        Ok(())
    }

    /// The last persisted fact.
    fn written(&self, instance: &Arc<Instance>) -> Fact {
        instance.with_state(|state| state.written).unwrap_or(Fact::Absent)
    }

    fn look_again(&self, instance: &Arc<Instance>, at: Timestamp) {
        instance.look_at_ms.store(at.0, Ordering::SeqCst);
    }

    /// The cause to report for this step.
    fn cause(&self, instance: &Arc<Instance>, step: NextStep, observed: ObservedState) -> Cause {
        let asked = instance.with_state(|state| state.cause).unwrap_or(Cause::FoundSo);
        let under_pressure = instance.pressure().is_some() && instance.wish() == Wish::Available;
        match (step, instance.wish()) {
            (NextStep::Upgrade | NextStep::RollBack, _) => Cause::Upgrade,
            (NextStep::Stop, Wish::Available) if observed.renewal == ContainerRenewal::Now => Cause::Upgrade,
            (NextStep::Freeze | NextStep::Stop, _) if under_pressure => Cause::Pressure,
            (NextStep::RemoveContainer, wish) if wish != Wish::Removed => Cause::Idle,
            (NextStep::Freeze | NextStep::Stop, Wish::Available) => Cause::Idle,
            (NextStep::Stop, Wish::Frozen) => Cause::Idle,
            _ => asked,
        }
    }

    /// The cause to report at rest. A fact that no step of the platform led to has the cause [`Cause::FoundSo`].
    fn cause_at_rest(&self, instance: &Arc<Instance>, fact: Fact) -> Cause {
        let status = instance.status();
        let ours = matches!(
            (status.fact, fact),
            (Fact::Freezing, Fact::Frozen)
                | (Fact::Stopping, Fact::Stopped)
                | (Fact::Removing, Fact::Removed | Fact::Absent)
        );
        if ours || status.fact == fact { status.cause } else { Cause::FoundSo }
    }
}

/// Whether a new wish or a reconnect of the engine reset the failure count, so that the backoff is skipped. A visit
/// alone does not reset it.
fn was_asked_anew(instance: &Arc<Instance>) -> bool {
    instance.with_state(|state| state.failures == 0)
}

/// The transient fact to publish while a step runs; `None`: the published fact stays.
fn under_way(step: NextStep) -> Option<Fact> {
    match step {
        NextStep::MakeVolume | NextStep::MakeContainer => Some(Fact::Provisioning),
        NextStep::Start | NextStep::AwaitReady => Some(Fact::Waking),
        NextStep::Freeze => Some(Fact::Freezing),
        NextStep::Thaw => Some(Fact::Thawing),
        NextStep::Stop => Some(Fact::Stopping),
        NextStep::Upgrade | NextStep::RollBack => Some(Fact::Upgrading),
        NextStep::RemoveContainer => Some(Fact::Removing),
        NextStep::Rest(_) => None,
    }
}

/// The stage of a wake that is finished when a step begins.
fn stage_before(step: NextStep) -> WakeStage {
    match step {
        NextStep::MakeContainer | NextStep::Upgrade | NextStep::RollBack => WakeStage::Volume,
        NextStep::Start => WakeStage::Container,
        NextStep::AwaitReady | NextStep::Thaw => WakeStage::Started,
        _ => WakeStage::Asked,
    }
}

fn at_rest(wish: Wish, observed: ObservedState) -> Fact {
    match (wish, observed.container) {
        (Wish::Removed, ContainerPhase::None) => Fact::Removed,
        (_, ContainerPhase::None) => Fact::Absent,
        (_, ContainerPhase::Outdated { .. } | ContainerPhase::Stopped) => Fact::Stopped,
        (_, ContainerPhase::Frozen) => Fact::Frozen,
        (_, ContainerPhase::Running { .. }) => Fact::Awake,
    }
}

impl From<HostError> for StepFailure {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<Error> for StepFailure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}
