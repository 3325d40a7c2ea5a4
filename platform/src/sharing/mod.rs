//! Sharing: what an owner opens of their instance, and to whom: a path or the whole, to named accounts, to whoever is signed
//! in, or to everyone. What is not opened stays the owner's alone.
//!
//! Who may pass is asked at every request, so it stands in memory. Shares that another process wrote are read when it says
//! so, and now and then.

mod limits;
mod registration;
mod rules;
mod store;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use limits::Limits;
pub use rules::{Admission, Audience, MOST_SHARES, Visitor, covers};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::db::{Db, InstanceId, Tx, audit};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::instances::{Instance, Instances};

/// How often everything is read again, for what another process wrote without saying so.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Sharing(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    instances: Instances,
    limits: Limits,
    memory: RwLock<HashMap<InstanceId, Arc<[Share]>>>,
    /// One at a time changes or reads again, so that what is read is never older than what is in memory.
    changing: tokio::sync::Mutex<()>,
}

/// A share's id, as its owner's page names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShareId(pub Uuid);

impl std::fmt::Display for ShareId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for ShareId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Something that an owner opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    pub id: ShareId,
    /// `/`, or a path without a slash at its end: that, and everything below.
    pub path: String,
    #[serde(flatten)]
    pub audience: Audience,
    pub made_at: Timestamp,
}

impl Sharing {
    /// Reads what is opened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, instances: Instances) -> Result<Self> {
        let limits = Limits::new(clock.clone());
        let (memory, changing) = (RwLock::default(), tokio::sync::Mutex::default());
        let sharing = Self(Arc::new(Inner { db, clock, instances, limits, memory, changing }));
        sharing.read_all().await?;
        Ok(sharing)
    }

    /// Opens `path` of `instance` to `audience`, by its owner.
    ///
    /// # Errors
    /// `Invalid` for a path that cannot be one, or a handle that nobody has; `Conflict` when it is open like that already, or
    /// as much is as may be.
    pub async fn add(&self, instance: &Instance, path: &str, audience: Audience) -> Result<Share> {
        let path = rules::tidy_path(path).map_err(|sentence| Error::invalid("path", sentence))?;
        self.check(instance, &audience)?;
        let _one_at_a_time = self.0.changing.lock().await;
        if self.of(instance.id).iter().any(|share| share.path == path && share.audience.is_like(&audience)) {
            return Err(Error::Conflict("This is open to them already. To change how, take that back first.".into()));
        }
        let share = Share { id: ShareId(self.0.clock.uuid()), path, audience, made_at: self.0.clock.now() };
        let tx = self.0.db.begin().await?;
        if store::count(&tx, instance.id).await? >= MOST_SHARES as u64 {
            return Err(Error::Conflict(format!("{MOST_SHARES} shares are as many as may be. Take one back first.")));
        }
        store::insert(&tx, instance.id, &share).await?;
        let (owner, what) = (instance.handle.as_str(), share.in_short());
        let entry = audit::AuditEntry { actor: owner, action: "share", subject: owner, detail: &what };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| {
            let shares = memory.entry(instance.id).or_default();
            *shares = shares.iter().chain([&share]).cloned().collect();
        });
        Ok(share)
    }

    /// Takes a share back, for `actor`. What is open by it ends within five seconds.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such share.
    pub async fn remove(&self, instance: &Instance, id: ShareId, actor: &str) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let tx = self.0.db.begin().await?;
        let share = store::delete(&tx, instance.id, id).await?.ok_or(Error::NotFound)?;
        let (owner, what) = (instance.handle.as_str(), share.in_short());
        let entry = audit::AuditEntry { actor, action: "unshare", subject: owner, detail: &what };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| {
            let shares = memory.entry(instance.id).or_default();
            *shares = shares.iter().filter(|share| share.id != id).cloned().collect();
        });
        Ok(())
    }

    /// What is open of an instance, oldest first, from memory.
    #[must_use]
    pub fn of(&self, instance: InstanceId) -> Arc<[Share]> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.get(&instance).cloned().unwrap_or_default()
    }

    /// What `visitor` may do at `path` of `instance`, from memory: asked at every request. Of one that is closed nothing is
    /// open.
    #[must_use]
    pub fn admit(&self, visitor: &Visitor, instance: &Instance, path: &str) -> Admission {
        if *visitor != Visitor::Owner && instance.status().wish.is_closed() {
            return Admission::Refused;
        }
        let shares = self.of(instance.id);
        rules::admit(visitor, path, shares.iter().map(|share| (share.path.as_str(), &share.audience)))
    }

    /// Whether anything of `instance` is open to `handle` by a login, so that they may log in on its host.
    #[must_use]
    pub fn invites(&self, instance: &Instance, handle: &Handle) -> bool {
        !instance.status().wish.is_closed() && self.of(instance.id).iter().any(|share| share.audience.invites(handle))
    }

    /// Counts a stranger's request.
    ///
    /// # Errors
    /// `TooMany` when too many came from this address of late.
    pub fn count_request(&self, from: IpAddr) -> Result<()> {
        self.0.limits.request(from)
    }

    /// Counts a wake of `instance` for a stranger.
    ///
    /// # Errors
    /// How long until there may be one.
    pub fn count_wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        self.0.limits.wake(instance)
    }

    /// Reads again what is open of one instance: another process changed it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(&self, instance: InstanceId) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let shares: Arc<[Share]> = store::of(&self.0.db, instance).await?.into();
        self.change(|memory| memory.insert(instance, shares));
        Ok(())
    }

    /// Reads everything again every half minute, until `shutdown`: a word from another process can be lost.
    pub async fn keep_reading(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(READ_AGAIN) => {}
            }
            if let Err(error) = self.read_all().await {
                tracing::warn!(error = ?error, "shares could not be read again; what is in memory counts");
            }
        }
    }

    /// Deletes, in the caller's transaction, what `instance` opened and what was opened to `owner` by name; call
    /// [`Sharing::forget`] after the commit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_in(&self, tx: &Tx, instance: Option<InstanceId>, owner: &Handle) -> Result<()> {
        if let Some(instance) = instance {
            store::forget(tx, instance).await?;
        }
        store::forget_guest(tx, owner).await
    }

    /// Forgets what was deleted by [`Sharing::forget_in`].
    pub fn forget(&self, instance: Option<InstanceId>, owner: &Handle) {
        let is_theirs = |share: &Share| matches!(&share.audience, Audience::Account { handle } if handle == owner);
        self.change(|memory| {
            memory.retain(|id, _| Some(*id) != instance);
            for shares in memory.values_mut().filter(|shares| shares.iter().any(is_theirs)) {
                *shares = shares.iter().filter(|share| !is_theirs(share)).cloned().collect();
            }
        });
    }

    /// Whether something can be opened to `audience` by the owner of `instance`.
    fn check(&self, instance: &Instance, audience: &Audience) -> Result<()> {
        let Audience::Account { handle } = audience else { return Ok(()) };
        if *handle == instance.handle {
            return Err(Error::invalid("handle", "That is you. All of it is open to you already."));
        }
        if self.0.instances.by_handle(handle).is_none() {
            return Err(Error::invalid("handle", "Nobody here has that handle."));
        }
        Ok(())
    }

    async fn read_all(&self) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let mut read: HashMap<InstanceId, Vec<Share>> = HashMap::new();
        for (instance, share) in store::all(&self.0.db).await? {
            read.entry(instance).or_default().push(share);
        }
        let read = read.into_iter().map(|(instance, shares)| (instance, shares.into())).collect();
        self.change(|memory| *memory = read);
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<InstanceId, Arc<[Share]>>) -> T) -> T {
        change(&mut self.0.memory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Share {
    /// For the audit and the operator: `/docs to account bob`.
    #[must_use]
    pub fn in_short(&self) -> String {
        let (audience, handle) = store::words(&self.audience);
        format!("{} to {audience} {handle}", self.path).trim_end().to_owned()
    }
}
