//! Instances: their wishes, their facts, and the one loop that makes facts follow wishes.

mod declared_jobs;
mod deletion;
mod in_flight;
mod index;
mod instance;
mod memory_pressure;
mod ports;
mod processor_usage;
mod readiness;
mod reconciler;
mod registration;
mod rules;
mod settings;
mod steps;
mod store;
mod upgrade;
mod wishes;
mod work;
mod work_tally;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use deletion::BurialOutcome;
pub use in_flight::{TrafficFlow, WorkInFlight};
use index::InstanceIndex;
pub use instance::Instance;
pub use ports::{MOST_PORTS, PortList};
pub use rules::{Cause, Fact, STUCK_AFTER, SleepPolicy, WakeStage, Wish};
use serde::Serialize;
pub use settings::InstanceSettings;
use store::NewInstance;
pub use upgrade::UpgradeOutcome;
pub use work::{DeclaredJob, LastWork, Work};
pub use work_tally::{AwakeLedger, OpenWork};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, InstanceSize};
use crate::containers::{ContainerHost, SLOTS_PER_BRIDGE, Slot};
use crate::db::{AccountId, Db, InstanceId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::hosts::Hosts;

/// The module. Cheap to clone.
#[derive(Clone)]
pub struct Instances(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    host: Arc<dyn ContainerHost>,
    hosts: Hosts,
    sizes: Vec<InstanceSize>,
    /// How long a started container may take until it answers.
    ready_within: Duration,
    delete_after: Duration,
    subnet: Ipv4Addr,
    port: u16,
    slots: u32,
    /// Never empty; the first is the default.
    images: Vec<String>,
    known: RwLock<InstanceIndex>,
    rounds: reconciler::ReconcilerState,
    /// The longest that a declared job keeps an instance awake.
    job_limit: Duration,
    processors: processor_usage::ProcessorUsage,
    memory: memory_pressure::MemoryReserve,
}

/// The status of an instance: pages show it, and waiters watch it for changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    pub wish: Wish,
    pub fact: Fact,
    /// Since when the fact holds.
    pub since: Timestamp,
    /// Why it came to be.
    pub cause: Cause,
    /// How far the wake that is under way has come.
    pub stage: WakeStage,
    /// What went wrong, for its owner, while the fact is [`Fact::Failed`].
    pub failure: Option<String>,
}

/// A change of fact, with its one cause.
#[derive(Clone, Debug, Serialize)]
pub struct Transition {
    pub at: Timestamp,
    pub from: Fact,
    pub to: Fact,
    pub cause: Cause,
    /// What it was last at, when it ceased to be awake.
    pub last: Option<LastWork>,
}

impl Instances {
    /// Reads every instance into memory. Nothing happens to a container until [`Instances::begin`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, host: Arc<dyn ContainerHost>, config: &Config) -> Result<Self> {
        let containers = &config.containers;
        let instances = Self(Arc::new(Inner {
            db,
            clock,
            host,
            hosts: config.hosts.clone(),
            sizes: containers.sizes.clone(),
            // The edge gives up waiting first; what comes up later is still welcome.
            ready_within: config.wake_timeout * 2,
            delete_after: containers.delete_after,
            subnet: containers.subnet,
            port: containers.instance_port,
            slots: u32::from(containers.bridges) * SLOTS_PER_BRIDGE,
            images: containers.images.clone(),
            known: RwLock::default(),
            rounds: reconciler::ReconcilerState::default(),
            job_limit: config.job_limit,
            processors: processor_usage::ProcessorUsage::new(config.busy_cpu_percent),
            memory: memory_pressure::MemoryReserve::new(config.starts_at_once, config.memory_reserve_percent),
        }));
        for record in store::all(&instances.0.db).await? {
            instances.learn(record);
        }
        instances.learn_jobs().await?;
        Ok(instances)
    }

    /// Writes a new instance for `account` in the caller's transaction. Call [`Instances::admit`] after the commit.
    ///
    /// # Errors
    /// `Conflict` when no place is left on this host's bridges.
    pub async fn create_in(&self, tx: &Tx, account: AccountId, handle: &Handle) -> Result<InstanceId> {
        let id = InstanceId(self.0.clock.uuid());
        let (image, size) = (self.0.images[0].as_str(), self.0.sizes[0].name.as_str());
        let new = NewInstance { id, account, handle, image, size };
        store::insert(tx, new, self.0.slots, self.0.clock.now()).await?;
        Ok(id)
    }

    /// Takes what was committed for an instance in (new, or its wish changed elsewhere) and nudges the reconciler.
    ///
    /// # Errors
    /// `NotFound` when there is no such row; when the database does not answer, and the next round finds it then.
    pub async fn admit(&self, id: InstanceId) -> Result<Arc<Instance>> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        let instance = match self.by_id(id) {
            None => self.learn(record),
            Some(instance) => {
                if record.asked.wish == Wish::Available {
                    instance.work.touch(record.asked.at);
                }
                instance.take_terms(record.terms.clone(), self.0.policy(&record.terms), record.upgrade);
                instance.take_ports(record.ports);
                instance.take_wish(record.asked);
                instance
            }
        };
        self.nudge(&instance);
        Ok(instance)
    }

    /// Loads every row that is newer than its cached copy: a notification on the control socket can be lost.
    async fn admit_newer(&self) -> Result<()> {
        for record in store::all(&self.0.db).await? {
            let known = self.by_id(record.id);
            let is_newer = |instance: Arc<Instance>| {
                instance.with_state(|state| state.wished_at < Some(record.asked.at) || state.terms != record.terms)
            };
            if known.is_none_or(is_newer) {
                self.admit(record.id).await?;
            }
        }
        Ok(())
    }

    /// By id, from memory.
    #[must_use]
    pub fn by_id(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.known(|known| known.by_id.get(&id).cloned())
    }

    /// By handle, from memory.
    #[must_use]
    pub fn by_handle(&self, handle: &Handle) -> Option<Arc<Instance>> {
        self.known(|known| known.by_handle.get(handle).cloned())
    }

    /// By its owner, from memory.
    #[must_use]
    pub fn by_account(&self, account: AccountId) -> Option<Arc<Instance>> {
        self.known(|known| known.by_account.get(&account).cloned())
    }

    /// By the hash of the token its container holds, from memory.
    #[must_use]
    pub fn by_token_hash(&self, hash: &[u8]) -> Option<Arc<Instance>> {
        self.known(|known| known.by_token_hash.get(hash).cloned())
    }

    /// The Engine's id of the container that now stands at an address.
    #[must_use]
    pub fn container_at(&self, address: Ipv4Addr) -> Option<Arc<str>> {
        self.known(|known| known.by_address.get(&address).and_then(|instance| instance.container()))
    }

    /// All of them, ordered by handle.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Instance>> {
        let mut all: Vec<_> = self.known(|known| known.by_id.values().cloned().collect());
        all.sort_by(|a, b| a.handle.cmp(&b.handle));
        all
    }

    /// How many are awake now.
    #[must_use]
    pub fn awake_count(&self) -> usize {
        self.known(|known| known.by_id.values().filter(|i| i.fact() == Fact::Awake).count())
    }

    /// Why it is awake, or since when and after what it idles.
    #[must_use]
    pub fn ledger(&self, instance: &Instance) -> AwakeLedger {
        let ledger = instance.work.ledger(self.0.clock.now(), instance.is_up(), instance.policy());
        AwakeLedger { jobs: self.jobs(instance), ..ledger }
    }

    /// The latest changes of fact, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(&self, id: InstanceId, limit: u64) -> Result<Vec<Transition>> {
        store::history(&self.0.db, id, limit).await
    }

    /// The status as the database has it, for a process that does not run the loop itself.
    ///
    /// # Errors
    /// `NotFound` when there is no such row; when the database does not answer.
    pub async fn recorded(&self, id: InstanceId) -> Result<InstanceStatus> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        Ok(Instance::recorded_status(&record))
    }

    /// Says that the instance's container did not accept a connection, although it is thought to be awake.
    pub fn report_unreachable(&self, instance: &Arc<Instance>) {
        instance.forget_reality();
        self.nudge(instance);
    }

    fn known<T>(&self, look: impl FnOnce(&InstanceIndex) -> T) -> T {
        look(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, mut record: store::InstanceRecord) -> Arc<Instance> {
        // The clock may have been set back since.
        record.active_at = record.active_at.min(self.0.clock.now());
        let address = SocketAddr::from((Slot::address(record.slot, self.0.subnet), self.0.port));
        let policy = self.0.policy(&record.terms);
        let instance = Arc::new(Instance::from_record(record, policy, address, Arc::downgrade(&self.0)));
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).insert(&instance);
        instance
    }

    fn learn_token(&self, instance: &Arc<Instance>, hash: Vec<u8>) {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).replace_token(instance, hash);
    }
}

impl InstanceStatus {
    /// Whether it has been in a transient state for so long that an operator should investigate: see [`STUCK_AFTER`].
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.fact.is_transient() && now.since(self.since) >= STUCK_AFTER
    }
}
