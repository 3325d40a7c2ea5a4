//! Instances: their wishes, their facts, and the one loop that makes facts follow wishes.

mod activity;
mod declared;
mod deletion;
mod instance;
mod memory;
mod ports;
mod processor;
mod readiness;
mod reconciler;
mod registration;
mod rules;
mod steps;
mod store;
mod upgrade;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use activity::{AwakeLedger, Flow, LastWork, Open, Work, WorkInFlight};
pub use declared::Job;
pub use deletion::Buried;
pub use instance::Instance;
pub use ports::{MOST_PORTS, Ports};
pub use rules::{Cause, Fact, Policy, STUCK_AFTER, Stage, Wish};
use serde::Serialize;
use store::Asked;
pub use upgrade::Renewed;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, InstanceSize};
use crate::containers::{ContainerHost, SLOTS_PER_BRIDGE, Slot};
use crate::db::{AccountId, Db, InstanceId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::hosts::Hosts;

/// The room. Cheap to clone.
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
    known: RwLock<Known>,
    rounds: reconciler::Rounds,
    /// The longest that a declared job keeps an instance awake.
    job_limit: Duration,
    processors: processor::Processors,
    memory: memory::Memory,
}

/// Every instance, by whatever it is looked up with.
#[derive(Default)]
struct Known {
    by_id: HashMap<InstanceId, Arc<Instance>>,
    by_handle: HashMap<Handle, Arc<Instance>>,
    by_account: HashMap<AccountId, Arc<Instance>>,
    by_token_hash: HashMap<Vec<u8>, Arc<Instance>>,
    by_address: HashMap<Ipv4Addr, Arc<Instance>>,
}

/// What is shown of an instance, and what waiters wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub wish: Wish,
    pub fact: Fact,
    /// Since when the fact holds.
    pub since: Timestamp,
    /// Why it came to be.
    pub cause: Cause,
    /// How far the wake that is under way has come.
    pub stage: Stage,
    /// What went wrong, for its owner, while the fact is [`Fact::Failed`].
    pub failure: Option<String>,
}

/// What an operator may change of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// One of the allowed images, by name.
    pub image: String,
    /// One of the sizes, by name.
    pub size: String,
    /// Instead of the size's own, where it is set.
    pub freeze_after: Option<Duration>,
    pub stop_after: Option<Duration>,
    pub remove_after: Option<Duration>,
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
            rounds: reconciler::Rounds::default(),
            job_limit: config.job_limit,
            processors: processor::Processors::new(config.busy_cpu_percent),
            memory: memory::Memory::new(config.starts_at_once, config.memory_reserve_percent),
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
        let terms = (self.0.images[0].as_str(), self.0.sizes[0].name.as_str());
        store::insert(tx, (id, account, handle), terms, self.0.slots, self.0.clock.now()).await?;
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

    /// Takes in every row that is newer than what is in mind: a word on the control socket can be lost.
    async fn admit_newer(&self) -> Result<()> {
        for record in store::all(&self.0.db).await? {
            let known = self.by_id(record.id);
            let is_newer = |instance: Arc<Instance>| {
                instance.with_mind(|mind| mind.wished_at < Some(record.asked.at) || mind.terms != record.terms)
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

    /// Wishes it available and counts as activity. A visit to one that is available already writes nothing: the
    /// wake path never waits for the disk.
    ///
    /// # Errors
    /// `Forbidden` when it is suspended; also when it was removed, unless the operator asks.
    pub async fn wake(&self, instance: &Arc<Instance>, cause: Cause) -> Result<()> {
        let wish = instance.wish();
        refuse_unless_wakeable(wish, cause)?;
        instance.work.touch(self.0.clock.now());
        if wish == Wish::Available && cause == Cause::Visit {
            if !instance.is_awake() {
                instance.with_mind(|mind| mind.cause = Some(cause));
                self.nudge(instance);
            }
            return Ok(());
        }
        self.wish(instance, Wish::Available, cause).await
    }

    /// Wishes it asleep: [`Wish::Frozen`] or [`Wish::Stopped`]; or without a container: [`Wish::Removed`].
    ///
    /// # Errors
    /// `Forbidden` when it is suspended; also when it was removed, unless the operator asks.
    pub async fn sleep(&self, instance: &Arc<Instance>, how: Wish, cause: Cause) -> Result<()> {
        refuse_unless_wakeable(instance.wish(), cause)?;
        self.wish(instance, how, cause).await
    }

    /// Stops the instance of `account` and lets nobody wake it, in the caller's transaction; call
    /// [`Instances::admit`] after the commit. No instance: nothing to do.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn suspend_in(&self, tx: &Tx, account: AccountId) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, (Wish::Suspended, Cause::OperatorAsked), &ALL_WISHES).await
    }

    /// Undoes [`Instances::suspend_in`]: the instance stays stopped until it is next visited.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn restore_in(&self, tx: &Tx, account: AccountId) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, (Wish::Stopped, Cause::OperatorAsked), &[Wish::Suspended]).await
    }

    /// Why it is awake, or since when and after what it idles.
    #[must_use]
    pub fn ledger(&self, instance: &Instance) -> AwakeLedger {
        let ledger = instance.work.ledger(self.0.clock.now(), instance.is_up(), instance.policy());
        AwakeLedger { jobs: self.jobs(instance), ..ledger }
    }

    /// Gives the instance other terms. Its image and size reach it when it next starts, how soon it sleeps at once.
    ///
    /// # Errors
    /// `Invalid` when the image or size is not one of this server's, or it would be stopped before it is frozen.
    pub async fn set_terms(&self, instance: &Arc<Instance>, terms: Terms) -> Result<()> {
        self.0.check(&terms)?;
        let tx = self.0.db.begin().await?;
        if !store::set_terms(&tx, instance.id, &terms).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        self.admit(instance.id).await?;
        Ok(())
    }

    /// Wishes it awake in a container as it would be made now. What is in flight ends first; one that does not become ready
    /// gives way to the container before it.
    ///
    /// # Errors
    /// As [`Instances::wake`].
    pub async fn upgrade(&self, instance: &Arc<Instance>) -> Result<()> {
        let cause = Cause::Upgrade;
        refuse_unless_wakeable(instance.wish(), cause)?;
        let tx = self.0.db.begin().await?;
        let asked = Asked { wish: Wish::Available, cause, at: instance.after_all_wishes(self.0.clock.now()) };
        store::set_renew_at(&tx, instance.id, asked.at).await?;
        if !store::set_wish(&tx, instance.id, asked, &may_replace(cause)).await? {
            drop(tx);
            refuse_unless_wakeable(self.admit(instance.id).await?.wish(), cause)?;
            return Err(Error::Conflict(BOTH_ASKED.into()));
        }
        tx.commit().await?;
        self.admit(instance.id).await?;
        Ok(())
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
    pub async fn recorded(&self, id: InstanceId) -> Result<Status> {
        let record = store::find(&self.0.db, id).await?.ok_or(Error::NotFound)?;
        Ok(Instance::recorded_status(&record))
    }

    /// Says that the instance's container did not accept a connection, although it is thought to be awake.
    pub fn report_unreachable(&self, instance: &Arc<Instance>) {
        instance.forget_reality();
        self.nudge(instance);
    }

    async fn wish(&self, instance: &Arc<Instance>, wish: Wish, cause: Cause) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let asked = Asked { wish, cause, at: instance.after_all_wishes(self.0.clock.now()) };
        if !store::set_wish(&tx, instance.id, asked, &may_replace(cause)).await? {
            drop(tx);
            // What is in mind was old: somebody suspended or removed it since.
            refuse_unless_wakeable(self.admit(instance.id).await?.wish(), cause)?;
            return Err(Error::Conflict(BOTH_ASKED.into()));
        }
        tx.commit().await?;
        instance.take_wish(asked);
        self.nudge(instance);
        Ok(())
    }

    async fn wish_in(
        &self,
        tx: &Tx,
        account: AccountId,
        (wish, cause): (Wish, Cause),
        over: &[Wish],
    ) -> Result<Option<InstanceId>> {
        let Some(id) = store::find_by_account(tx, account).await? else { return Ok(None) };
        let now = self.0.clock.now();
        let at = self.by_id(id).map_or(now, |instance| instance.after_all_wishes(now));
        store::set_wish(tx, id, Asked { wish, cause, at }, over).await?;
        Ok(Some(id))
    }

    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, mut record: store::Record) -> Arc<Instance> {
        // The clock may have been set back since.
        record.active_at = record.active_at.min(self.0.clock.now());
        let address = SocketAddr::from((Slot::address(record.slot, self.0.subnet), self.0.port));
        let token_hash = record.token_hash.clone();
        let policy = self.0.policy(&record.terms);
        let instance = Arc::new(Instance::from_record(record, policy, address, Arc::downgrade(&self.0)));
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_id.insert(instance.id, Arc::clone(&instance));
        known.by_handle.insert(instance.handle.clone(), Arc::clone(&instance));
        known.by_account.insert(instance.account, Arc::clone(&instance));
        known.by_address.insert(instance.address(), Arc::clone(&instance));
        if let Some(hash) = token_hash {
            known.by_token_hash.insert(hash, Arc::clone(&instance));
        }
        instance
    }

    /// Remembers the token of the next container and forgets the one before.
    fn learn_token(&self, instance: &Arc<Instance>, hash: Vec<u8>) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = instance.with_mind(|mind| mind.token_hash.replace(hash.clone())) {
            known.by_token_hash.remove(&old);
        }
        known.by_token_hash.insert(hash, Arc::clone(instance));
    }
}

impl Status {
    /// Whether it has been on its way for so long that somebody should look: see [`STUCK_AFTER`].
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.fact.is_transient() && now.since(self.since) >= STUCK_AFTER
    }
}

impl Inner {
    /// Whether an instance can be on these terms.
    fn check(&self, terms: &Terms) -> Result<()> {
        let invalid = |field, message| Err(Error::Invalid { field, message });
        if !self.images.contains(&terms.image) {
            return invalid("image", format!("The images of this server are: {}.", self.images.join(", ")));
        }
        if !self.sizes.iter().any(|size| size.name == terms.size) {
            let names: Vec<_> = self.sizes.iter().map(|size| size.name.as_str()).collect();
            return invalid("size", format!("The sizes of this server are: {}.", names.join(", ")));
        }
        let policy = self.policy(terms);
        if policy.freeze_after.is_zero() || policy.stop_after <= policy.freeze_after {
            return invalid("stop_after", "An instance is frozen first and stopped later.".into());
        }
        if policy.remove_after <= policy.stop_after {
            return invalid("remove_after", "An instance is stopped first and its container removed later.".into());
        }
        Ok(())
    }

    /// How soon an instance on these terms sleeps. A size that is no longer there leaves the standard's.
    fn policy(&self, terms: &Terms) -> Policy {
        let size = self.sizes.iter().find(|size| size.name == terms.size).unwrap_or(&self.sizes[0]);
        Policy {
            freeze_after: terms.freeze_after.unwrap_or(size.freeze_after),
            stop_after: terms.stop_after.unwrap_or(size.stop_after),
            remove_after: terms.remove_after.unwrap_or(size.remove_after),
        }
    }
}

const BOTH_ASKED: &str = "Somebody else asked at the same moment. Please try again.";

const ALL_WISHES: [Wish; 6] =
    [Wish::Available, Wish::Frozen, Wish::Stopped, Wish::Removed, Wish::Suspended, Wish::Leaving];

/// The wishes that one with this cause may replace.
fn may_replace(cause: Cause) -> Vec<Wish> {
    ALL_WISHES.into_iter().filter(|wish| refuse_unless_wakeable(*wish, cause).is_ok()).collect()
}

fn refuse_unless_wakeable(wish: Wish, cause: Cause) -> Result<()> {
    match (wish, cause) {
        (Wish::Suspended, Cause::OperatorAsked) => {
            Err(Error::Forbidden("This account is suspended. Restore it first: berth user restore HANDLE.".into()))
        }
        (Wish::Suspended, _) => {
            Err(Error::Forbidden("This account is suspended. Ask the operator of this server why.".into()))
        }
        (Wish::Leaving, Cause::OperatorAsked) => {
            Err(Error::Forbidden("This account leaves. Keep it first: berth user keep HANDLE.".into()))
        }
        (Wish::Leaving, _) => Err(Error::Forbidden(
            "This account leaves, and its instance sleeps until its files are destroyed. Log in to keep it.".into(),
        )),
        (Wish::Removed, cause) if cause != Cause::OperatorAsked => Err(Error::Forbidden(
            "The operator removed this instance's container. Its files are kept; ask the operator to wake it.".into(),
        )),
        _ => Ok(()),
    }
}
