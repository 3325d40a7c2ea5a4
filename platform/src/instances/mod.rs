//! The instances module: desired state (wish), observed state (fact), and the reconciler, the one control loop that
//! makes facts follow wishes.

mod declared_jobs;
mod deletion;
mod in_flight;
mod index;
mod instance;
mod instance_settings;
mod memory_pressure;
mod memory_reserve;
mod ports;
mod processor_sampling;
mod processor_usage;
mod readiness;
mod reconciler;
mod reconciler_state;
mod registration;
mod rules;
mod settings;
mod status;
mod steps;
mod store;
mod upgrade;
mod wishes;
mod work;
mod work_tally;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use berth_containers::{ContainerHost, SLOTS_PER_BRIDGE, Slot};
use berth_ground::clock::Clock;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_net::hosts::Hosts;
pub use declared_jobs::MAX_JOBS;
pub use deletion::MarkOutcome;
pub use in_flight::{TrafficFlow, WorkInFlight};
use index::InstanceIndex;
pub use instance::Instance;
pub use instance_settings::InstanceSettings;
pub use ports::{MOST_PORTS, PortList};
pub use rules::{Cause, Fact, STUCK_AFTER, SleepPolicy, WakeStage, Wish};
pub use status::{InstanceStatus, Transition};
use store::NewInstance;
pub use upgrade::UpgradeOutcome;
pub use work::{DeclaredJob, LastWork, Work};
pub use work_tally::{AwakeReport, OpenWork};

use crate::config::{Config, InstanceSize};
use crate::db::{AccountId, Db, InstanceId, Tx};

/// The instances module. Cheap to clone: clones share one cache of instances and one reconciler.
#[derive(Clone)]
pub struct Instances(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    host: Arc<dyn ContainerHost>,
    hosts: Hosts,
    sizes: Vec<InstanceSize>,
    /// Readiness timeout: how long a started container may take until it answers.
    ready_within: Duration,
    /// Grace period between the deletion of an account and the destruction of its files.
    delete_after: Duration,
    subnet: Ipv4Addr,
    port: u16,
    slots: u32,
    /// Never empty; the first is the default.
    images: Vec<String>,
    /// Cache of every instance row. Callers that route requests read it and never the database.
    known: RwLock<InstanceIndex>,
    /// Instances whose row could not be parsed at the start. They are served to nobody, and their containers are no
    /// orphans.
    set_aside: HashSet<InstanceId>,
    rounds: reconciler_state::ReconcilerState,
    /// Upper limit on how long one declared job keeps an instance awake.
    job_limit: Duration,
    processors: processor_usage::ProcessorUsage,
    memory: memory_reserve::MemoryReserve,
}

impl Instances {
    /// Loads every instance row into the cache. No container is touched until [`Instances::begin`].
    pub async fn open(db: Db, clock: Clock, host: Arc<dyn ContainerHost>, config: &Config) -> Result<Self> {
        let containers = &config.containers;
        let records = store::all(&db).await?;
        let mut set_aside = store::ids(&db).await?;
        for record in &records {
            set_aside.remove(&record.id);
        }
        let instances = Self(Arc::new(Inner {
            db,
            clock,
            host,
            hosts: config.hosts.clone(),
            sizes: containers.sizes.clone(),
            // Longer than any request is held: the edge times out first, and a container that becomes ready after that
            // is kept.
            ready_within: config.wake_timeout * 2,
            delete_after: containers.delete_after,
            subnet: containers.subnet,
            port: containers.instance_port,
            slots: u32::from(containers.bridges) * SLOTS_PER_BRIDGE,
            images: containers.images.clone(),
            known: RwLock::default(),
            set_aside,
            rounds: reconciler_state::ReconcilerState::default(),
            job_limit: config.job_limit,
            processors: processor_usage::ProcessorUsage::new(config.busy_cpu_percent),
            memory: memory_reserve::MemoryReserve::new(config.starts_at_once, config.memory_reserve_percent),
        }));
        for record in records {
            instances.learn(record);
        }
        instances.learn_jobs().await?;
        Ok(instances)
    }

    /// Inserts a new instance row for `account` in the caller's transaction. Call [`Instances::load_committed`] after
    /// the commit: the cache is filled only with committed rows.
    ///
    /// # Errors
    /// `Conflict` when no slot is free on this host's bridges.
    pub async fn create_in(&self, tx: &Tx, account: AccountId, handle: &Handle) -> Result<InstanceId> {
        let id = InstanceId(self.0.clock.uuid());
        let (image, size) = (self.0.images[0].as_str(), self.0.sizes[0].name.as_str());
        let new = NewInstance { id, account, handle, image, size };
        store::insert(tx, new, self.0.slots, self.0.clock.now()).await?;
        Ok(id)
    }

    /// Reloads the committed row of an instance, new or changed by another process, into the cache and nudges the
    /// reconciler.
    ///
    /// # Errors
    /// `NotFound` when the instance has no row. After a database error the next reconciliation round retries.
    pub async fn load_committed(&self, id: InstanceId) -> Result<Arc<Instance>> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        let instance = match self.by_id(id) {
            None => self.learn(record),
            Some(instance) => {
                // The wish may have been written by another process, which cannot touch this process's work tally.
                if record.asked.wish == Wish::Available {
                    instance.work.touch(record.asked.at);
                }
                instance.replace_settings(record.settings.clone(), self.0.policy(&record.settings), record.upgrade);
                instance.take_ports(record.ports);
                instance.take_wish(record.asked);
                instance
            }
        };
        self.nudge(&instance);
        Ok(instance)
    }

    /// Reloads every row that is newer than its cached copy, because the notification on the control socket is best
    /// effort.
    async fn admit_newer(&self) -> Result<()> {
        for record in store::all(&self.0.db).await? {
            let known = self.by_id(record.id);
            let is_newer = |instance: Arc<Instance>| {
                instance
                    .with_state(|state| state.wished_at < Some(record.asked.at) || state.settings != record.settings)
            };
            if known.is_none_or(is_newer) {
                self.load_committed(record.id).await?;
            }
        }
        Ok(())
    }

    /// Looks an instance up by id, in the cache.
    #[must_use]
    pub fn by_id(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.known(|known| known.by_id.get(&id).cloned())
    }

    /// Looks an instance up by handle, in the cache.
    #[must_use]
    pub fn by_handle(&self, handle: &Handle) -> Option<Arc<Instance>> {
        self.known(|known| known.by_handle.get(handle).cloned())
    }

    /// Looks an instance up by its owner's account, in the cache.
    #[must_use]
    pub fn by_account(&self, account: AccountId) -> Option<Arc<Instance>> {
        self.known(|known| known.by_account.get(&account).cloned())
    }

    /// Looks an instance up by the hash of its container's token, in the cache.
    #[must_use]
    pub fn by_token_hash(&self, hash: &[u8]) -> Option<Arc<Instance>> {
        self.known(|known| known.by_token_hash.get(hash).cloned())
    }

    /// The engine's id of the container that currently has this address, from the cache.
    #[must_use]
    pub fn container_at(&self, address: Ipv4Addr) -> Option<Arc<str>> {
        self.known(|known| known.by_address.get(&address).and_then(|instance| instance.container()))
    }

    /// A snapshot of all instances, ordered by handle.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Instance>> {
        let mut all: Vec<_> = self.known(|known| known.by_id.values().cloned().collect());
        all.sort_by(|a, b| a.handle.cmp(&b.handle));
        all
    }

    /// The number of awake instances.
    #[must_use]
    pub fn awake_count(&self) -> usize {
        self.known(|known| known.by_id.values().filter(|i| i.fact() == Fact::Awake).count())
    }

    /// The awake report: the work that keeps the instance awake, or its last work and the time since which it is idle.
    #[must_use]
    pub fn awake_report(&self, instance: &Instance) -> AwakeReport {
        let report = instance.work.report(self.0.clock.now(), instance.is_up(), instance.policy());
        AwakeReport { jobs: self.jobs(instance), ..report }
    }

    /// The latest transitions, newest first.
    pub async fn history(&self, id: InstanceId, limit: u64) -> Result<Vec<Transition>> {
        store::history(&self.0.db, id, limit).await
    }

    /// The status in the database, for a process that does not run the reconciler and therefore has no current cache.
    ///
    /// # Errors
    /// `NotFound` when the instance has no row.
    pub async fn recorded(&self, id: InstanceId) -> Result<InstanceStatus> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        Ok(Instance::recorded_status(&record))
    }

    /// Reports that the container refused a connection although its instance counts as awake. The reconciler then
    /// observes the container again instead of trusting the cached state.
    pub fn report_unreachable(&self, instance: &Arc<Instance>) {
        instance.forget_reality();
        self.nudge(instance);
    }

    fn known<T>(&self, look: impl FnOnce(&InstanceIndex) -> T) -> T {
        look(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, mut record: store::InstanceRecord) -> Arc<Instance> {
        // The clock may have been set back since the row was written; a time of activity in the future would keep the
        // instance awake until the clock reaches it.
        record.active_at = record.active_at.min(self.0.clock.now());
        let address = SocketAddr::from((Slot::address(record.slot, self.0.subnet), self.0.port));
        let policy = self.0.policy(&record.settings);
        let instance = Arc::new(Instance::from_record(record, policy, address, self.0.clock.clone()));
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).insert(&instance);
        instance
    }

    fn learn_token(&self, instance: &Arc<Instance>, hash: Vec<u8>) {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).replace_token(instance, hash);
    }
}
