//! Sharing: access control for an instance's visitors. A share opens a path, or the whole instance, to a named account,
//! to every logged-in account, or to everyone. Without a share only the owner has access.
//!
//! Every request is checked, so a cache holds all shares in memory. The CLI writes shares in a process of its own and
//! notifies the platform; a periodic reload covers a lost notification.

mod limits;
mod registration;
mod rules;
mod share;
mod store;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use berth_ground::clock::Clock;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use limits::VisitorRateLimits;
pub use rules::{AccessDecision, MOST_SHARES, ShareAudience, Visitor, covers};
pub use share::{Share, ShareId};
use tokio_util::sync::CancellationToken;

use crate::db::audit::{self, AuditEntry};
use crate::db::{Db, InstanceId, Tx};
use crate::instances::{Instance, Instances};

/// Interval of the full reload.
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);

/// The module's interface. Clones share one state.
#[derive(Clone)]
pub struct Sharing(Arc<SharingInner>);

struct SharingInner {
    db: Db,
    clock: Clock,
    instances: Instances,
    limits: VisitorRateLimits,
    memory: RwLock<HashMap<InstanceId, Arc<[Share]>>>,
    /// Serialises writes and reloads. Without it a reload could read the table, a write could commit and update
    /// `memory`, and the reload would then put the older state back: a revoked share would be open again.
    write_lock: tokio::sync::Mutex<()>,
}

impl Sharing {
    /// Loads all shares into memory.
    pub async fn open(db: Db, clock: Clock, instances: Instances) -> Result<Self> {
        let limits = VisitorRateLimits::new(clock.clone());
        let (memory, write_lock) = (RwLock::default(), tokio::sync::Mutex::default());
        let sharing = Self(Arc::new(SharingInner { db, clock, instances, limits, memory, write_lock }));
        sharing.reload_all().await?;
        Ok(sharing)
    }

    /// Shares `path` of `instance` with `audience`, on behalf of its owner.
    ///
    /// # Errors
    /// `Invalid` for a malformed path or a handle without an account; `Conflict` when the same share exists, or the
    /// instance has the most shares allowed.
    pub async fn add(&self, instance: &Instance, path: &str, audience: ShareAudience) -> Result<Share> {
        let path = rules::parse_path(path).map_err(|sentence| Error::invalid("path", sentence))?;
        self.check_audience(instance, &audience)?;
        let _guard = self.0.write_lock.lock().await;
        if self.of(instance.id).iter().any(|share| share.path == path && share.audience.is_like(&audience)) {
            return Err(Error::Conflict("This is open to them already. To change how, take that back first.".into()));
        }
        let share = Share { id: ShareId(self.0.clock.uuid()), path, audience, made_at: self.0.clock.now() };
        let tx = self.0.db.begin().await?;
        if store::count(&tx, instance.id).await? >= MOST_SHARES as u64 {
            return Err(Error::Conflict(format!("{MOST_SHARES} shares are as many as may be. Take one back first.")));
        }
        store::insert(&tx, instance.id, &share).await?;
        let (owner, summary) = (instance.handle.as_str(), share.summary());
        let entry = AuditEntry { actor: owner, action: "share", subject: owner, detail: &summary };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| {
            let shares = memory.entry(instance.id).or_default();
            *shares = shares.iter().chain([&share]).cloned().collect();
        });
        Ok(share)
    }

    /// Revokes a share. Streams and WebSockets that depend on it end within five seconds. `actor` is written to the
    /// audit log.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such share.
    pub async fn remove(&self, instance: &Instance, id: ShareId, actor: &str) -> Result<()> {
        let _guard = self.0.write_lock.lock().await;
        let tx = self.0.db.begin().await?;
        let share = store::delete(&tx, instance.id, id).await?.ok_or(Error::NotFound)?;
        let (owner, summary) = (instance.handle.as_str(), share.summary());
        let entry = AuditEntry { actor, action: "unshare", subject: owner, detail: &summary };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.change(|memory| {
            let shares = memory.entry(instance.id).or_default();
            *shares = shares.iter().filter(|share| share.id != id).cloned().collect();
        });
        Ok(())
    }

    /// The shares of an instance, the oldest first.
    #[must_use]
    pub fn of(&self, instance: InstanceId) -> Arc<[Share]> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.get(&instance).cloned().unwrap_or_default()
    }

    /// Decides the access of `visitor` to `path` of `instance`. Answered from memory; called for every request.
    #[must_use]
    pub fn decide_access(&self, visitor: &Visitor, instance: &Instance, path: &str) -> AccessDecision {
        // An instance that is suspended, removed or scheduled for deletion is closed: its shares have no effect.
        if *visitor != Visitor::Owner && instance.status().wish.is_closed() {
            return AccessDecision::Refused;
        }
        let shares = self.of(instance.id);
        rules::decide_access(visitor, path, shares.iter().map(|share| (share.path.as_str(), &share.audience)))
    }

    /// Whether a share of `instance` allows the account `handle` to log in on the instance's host.
    #[must_use]
    pub fn invites(&self, instance: &Instance, handle: &Handle) -> bool {
        !instance.status().wish.is_closed() && self.of(instance.id).iter().any(|share| share.audience.invites(handle))
    }

    /// Counts a request without a login against the rate limit of its address.
    ///
    /// # Errors
    /// `TooMany` above the limit.
    pub fn count_request(&self, from: IpAddr) -> Result<()> {
        self.0.limits.request(from)
    }

    /// Counts a wake of `instance` by a request without a login.
    ///
    /// # Errors
    /// The time until the next wake is allowed, when the rate limit is exceeded.
    pub fn count_wake(&self, instance: InstanceId) -> std::result::Result<(), Duration> {
        self.0.limits.wake(instance)
    }

    /// Reloads the shares of one instance after another process changed them.
    pub async fn reload(&self, instance: InstanceId) -> Result<()> {
        let _guard = self.0.write_lock.lock().await;
        let shares: Arc<[Share]> = store::of(&self.0.db, instance).await?.into();
        self.change(|memory| memory.insert(instance, shares));
        Ok(())
    }

    /// Reloads all shares every half minute until `shutdown`, in case a notification was lost.
    pub async fn keep_reloading(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            if let Err(error) = self.reload_all().await {
                tracing::warn!(error = ?error, "shares could not be reloaded; those in memory stay in force");
            }
        }
    }

    /// Deletes, in the caller's transaction, the shares of `instance` and those that name `owner` as guest.
    /// [`Sharing::forget`] must be called after the commit.
    async fn forget_in(&self, tx: &Tx, instance: Option<InstanceId>, owner: &Handle) -> Result<()> {
        if let Some(instance) = instance {
            store::forget(tx, instance).await?;
        }
        store::forget_guest(tx, owner).await
    }

    /// Removes from memory the shares that [`Sharing::forget_in`] deleted.
    fn forget(&self, instance: Option<InstanceId>, owner: &Handle) {
        let is_theirs = |share: &Share| matches!(&share.audience, ShareAudience::Account { handle } if handle == owner);
        self.change(|memory| {
            memory.retain(|id, _| Some(*id) != instance);
            for shares in memory.values_mut().filter(|shares| shares.iter().any(is_theirs)) {
                *shares = shares.iter().filter(|share| !is_theirs(share)).cloned().collect();
            }
        });
    }

    /// Checks that the owner of `instance` can share with `audience`.
    fn check_audience(&self, instance: &Instance, audience: &ShareAudience) -> Result<()> {
        let ShareAudience::Account { handle } = audience else { return Ok(()) };
        if *handle == instance.handle {
            return Err(Error::invalid("handle", "That is you. All of it is open to you already."));
        }
        if self.0.instances.by_handle(handle).is_none() {
            return Err(Error::invalid("handle", "No account here has that handle."));
        }
        Ok(())
    }

    async fn reload_all(&self) -> Result<()> {
        let _guard = self.0.write_lock.lock().await;
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
