//! Certificates: how many names may have their first one in a week, and from when on each may. An authority that is asked for
//! more refuses all of us, the names that sign up next and those that renew.
//!
//! Caddy gets and keeps the certificates; this is what `ask` knows of them, from memory.

mod registration;
mod rules;
mod store;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rules::Budget;

use crate::clock::{Clock, Timestamp};
use crate::db::Db;
use crate::error::Result;
use crate::handle::Handle;

/// How long to wait before trying again to write a name down.
const RETRY: Duration = Duration::from_secs(10);
/// How often it is tried. A name that is not written down counts again after a restart.
const TRIES: u32 = 60;

/// The room. Cheap to clone. Where an own CA or a wildcard serves, there is no limit and nothing to remember.
#[derive(Clone)]
pub struct Certificates(Option<Arc<Inner>>);

struct Inner {
    db: Db,
    clock: Clock,
    memory: Mutex<Memory>,
}

struct Memory {
    budget: Budget,
    /// From when on each name may have a certificate.
    from: HashMap<Handle, Timestamp>,
}

/// How much of a week's budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// More than `weekly` when names wait for theirs.
    pub names: u32,
    pub weekly: NonZeroU32,
}

impl Certificates {
    /// Reads what was let through before. `weekly`: first certificates in a week; `None` without a limit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, weekly: Option<NonZeroU32>) -> Result<Self> {
        let Some(weekly) = weekly else { return Ok(Self(None)) };
        let memory = Mutex::new(remember(&db, weekly).await?);
        Ok(Self(Some(Arc::new(Inner { db, clock, memory }))))
    }

    /// From when on the name may have its certificate, now or later: its place is taken with the first call and kept.
    pub fn reserve(&self, handle: &Handle) -> Timestamp {
        let Some(inner) = &self.0 else { return Timestamp(0) };
        let mut memory = inner.memory();
        if let Some(from) = memory.from.get(handle) {
            return *from;
        }
        let from = memory.budget.take(inner.clock.now());
        memory.from.insert(handle.clone(), from);
        drop(memory);
        tokio::spawn(write_down(Arc::clone(inner), handle.clone(), from));
        from
    }

    /// Whether the name may have a certificate now. A new one takes its place.
    pub fn may_have_one(&self, handle: &Handle) -> bool {
        let from = self.reserve(handle);
        self.0.as_ref().is_none_or(|inner| from <= inner.clock.now())
    }

    /// From when on the name may have its certificate, where that is later than now. Looking takes no place.
    #[must_use]
    pub fn ready_at(&self, handle: &Handle) -> Option<Timestamp> {
        let inner = self.0.as_ref()?;
        let (memory, now) = (inner.memory(), inner.clock.now());
        let from = memory.from.get(handle).copied().unwrap_or_else(|| memory.budget.next(now));
        (from > now).then_some(from)
    }

    /// Whether first certificates are counted at all.
    #[must_use]
    pub fn are_counted(&self) -> bool {
        self.0.is_some()
    }

    /// How much is spent; `None` without a limit.
    #[must_use]
    pub fn spent(&self) -> Option<Spent> {
        let inner = self.0.as_ref()?;
        Some(inner.memory().budget.spent(inner.clock.now()))
    }
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn remember(db: &Db, weekly: NonZeroU32) -> Result<Memory> {
    let mut memory = Memory { budget: Budget::new(weekly), from: HashMap::new() };
    for (handle, from) in store::all(db).await? {
        memory.budget.take(from);
        memory.from.insert(handle, from);
    }
    Ok(memory)
}

/// Behind the answer, because `ask` is answered from memory.
async fn write_down(inner: Arc<Inner>, handle: Handle, from: Timestamp) {
    for _ in 0..TRIES {
        match store::add(&inner.db, &handle, from).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%handle, %error, "could not write down that a name was let through"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
