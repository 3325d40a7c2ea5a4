//! Instances: their wishes, their facts, and the one loop that makes facts follow wishes.

mod rules;

use std::net::Ipv4Addr;
use std::sync::Arc;

pub use rules::{Cause, Fact, Policy, Stage, Wish};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::db::{AccountId, InstanceId, Tx};
use crate::error::Result;
use crate::handle::Handle;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Instances(Arc<Inner>);

struct Inner {}

/// One instance as this process knows it: in memory, so that the edge and Caddy's `ask` never wait for the database.
pub struct Instance {
    pub id: InstanceId,
    pub account: AccountId,
    pub handle: Handle,
    status: watch::Sender<Status>,
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

/// A change of fact, with its one cause.
#[derive(Clone, Debug, Serialize)]
pub struct Transition {
    pub at: Timestamp,
    pub from: Fact,
    pub to: Fact,
    pub cause: Cause,
}

/// Keeps an instance awake while it lives: one for each request, stream or AI call in flight.
#[must_use = "dropping it says that the work is over"]
pub struct WorkInFlight {
    _instance: Arc<Instance>,
}

impl Instance {
    /// What is known of it now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The status from now on, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The address that is this instance's alone for as long as it exists.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        todo!()
    }

    /// Says that work begins; it ends when the guard is dropped.
    pub fn begin_work(self: &Arc<Self>) -> WorkInFlight {
        todo!()
    }
}

impl Instances {
    /// Writes a new instance for `account` in the caller's transaction. Call [`Instances::admit`] after the commit.
    ///
    /// # Errors
    /// `Conflict` when no place is left on this host's bridges.
    pub async fn create_in(&self, _tx: &Tx, _account: AccountId, _handle: &Handle) -> Result<InstanceId> {
        todo!()
    }

    /// Takes a just committed instance in and begins to make it.
    ///
    /// # Errors
    /// When the database does not answer; the next round finds it then.
    pub async fn admit(&self, _id: InstanceId) -> Result<Arc<Instance>> {
        todo!()
    }

    /// By handle, from memory.
    #[must_use]
    pub fn by_handle(&self, _handle: &Handle) -> Option<Arc<Instance>> {
        todo!()
    }

    /// By its owner, from memory.
    #[must_use]
    pub fn by_account(&self, _account: AccountId) -> Option<Arc<Instance>> {
        todo!()
    }

    /// By the hash of the token its container holds, from memory.
    #[must_use]
    pub fn by_token_hash(&self, _hash: &[u8]) -> Option<Arc<Instance>> {
        todo!()
    }

    /// All of them, ordered by handle.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Instance>> {
        todo!()
    }

    /// How many are awake now.
    #[must_use]
    pub fn awake_count(&self) -> usize {
        todo!()
    }

    /// Wishes it available and counts as activity. Awake already: only the activity.
    ///
    /// # Errors
    /// `Forbidden` when it is suspended, `NotFound` when it is removed.
    pub async fn wake(&self, _instance: &Arc<Instance>, _cause: Cause) -> Result<()> {
        todo!()
    }

    /// Wishes it asleep: [`Wish::Frozen`] or [`Wish::Stopped`].
    ///
    /// # Errors
    /// `Forbidden` when it is suspended, `NotFound` when it is removed.
    pub async fn sleep(&self, _instance: &Arc<Instance>, _how: Wish, _cause: Cause) -> Result<()> {
        todo!()
    }

    /// Stops the instance of `account` and lets nobody wake it, in the caller's transaction; nudge with
    /// [`Instances::admit`] after the commit. No instance: nothing to do.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn suspend_in(&self, _tx: &Tx, _account: AccountId) -> Result<Option<InstanceId>> {
        todo!()
    }

    /// Undoes [`Instances::suspend_in`]: the instance stays stopped until it is next visited.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn restore_in(&self, _tx: &Tx, _account: AccountId) -> Result<Option<InstanceId>> {
        todo!()
    }

    /// The latest changes of fact, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(&self, _id: InstanceId, _limit: u64) -> Result<Vec<Transition>> {
        todo!()
    }
}
