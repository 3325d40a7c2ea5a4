//! The use-cases that write the desired state (wish): wake, sleep, suspend, restore, upgrade. Every write is a
//! compare-and-set on the wish it replaces.

use std::sync::Arc;

use berth_ground::error::{Error, Result};

use super::rules::{Cause, Wish};
use super::store::{self, WishRecord};
use super::{Instance, Instances};
use crate::db::{AccountId, InstanceId, Tx};

impl Instances {
    /// Sets the wish to available and counts as activity. A visit to an instance that is already wished available
    /// writes nothing, so the wake path never waits for the disk.
    ///
    /// # Errors
    /// `Forbidden` when the instance is suspended or leaving; also when it was removed, unless the operator asks.
    pub async fn wake(&self, instance: &Arc<Instance>, cause: Cause) -> Result<()> {
        let wish = instance.wish();
        refuse_unless_wakeable(wish, cause)?;
        instance.work.touch(self.0.clock.now());
        if wish == Wish::Available && cause == Cause::Visit {
            if !instance.is_awake() {
                instance.with_state(|state| state.cause = Some(cause));
                self.nudge(instance);
            }
            return Ok(());
        }
        self.wish(instance, Wish::Available, cause).await
    }

    /// Sets the wish to asleep ([`Wish::Frozen`] or [`Wish::Stopped`]), or to no container ([`Wish::Removed`]).
    ///
    /// # Errors
    /// `Forbidden` when the instance is suspended or leaving; also when it was removed, unless the operator asks.
    pub async fn sleep(&self, instance: &Arc<Instance>, how: Wish, cause: Cause) -> Result<()> {
        refuse_unless_wakeable(instance.wish(), cause)?;
        self.wish(instance, how, cause).await
    }

    /// Suspends the instance of `account`: stops it and refuses wake requests. Runs in the caller's transaction; call
    /// [`Instances::load_committed`] after the commit. Idempotent: without an instance it does nothing.
    pub async fn suspend_in(&self, tx: &Tx, account: AccountId) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, Wish::Suspended, Cause::OperatorAsked, &ALL_WISHES).await
    }

    /// Undoes [`Instances::suspend_in`]: the instance stays stopped until it is next visited.
    pub async fn restore_in(&self, tx: &Tx, account: AccountId) -> Result<Option<InstanceId>> {
        self.wish_in(tx, account, Wish::Stopped, Cause::OperatorAsked, &[Wish::Suspended]).await
    }

    /// Requests that the instance be awake in a container created from the current settings. Work in flight ends first;
    /// a container that does not become ready is rolled back to the previous one.
    ///
    /// # Errors
    /// As [`Instances::wake`].
    pub async fn upgrade(&self, instance: &Arc<Instance>) -> Result<()> {
        let cause = Cause::Upgrade;
        refuse_unless_wakeable(instance.wish(), cause)?;
        let tx = self.0.db.begin().await?;
        let asked = WishRecord { wish: Wish::Available, cause, at: instance.after_all_wishes(self.0.clock.now()) };
        // In one transaction with the wish: a crash leaves both or neither.
        store::set_renew_at(&tx, instance.id, asked.at).await?;
        if !store::set_wish(&tx, instance.id, asked, &may_replace(cause)).await? {
            drop(tx);
            refuse_unless_wakeable(self.load_committed(instance.id).await?.wish(), cause)?;
            return Err(Error::Conflict(BOTH_ASKED.into()));
        }
        tx.commit().await?;
        self.load_committed(instance.id).await?;
        Ok(())
    }

    async fn wish(&self, instance: &Arc<Instance>, wish: Wish, cause: Cause) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let asked = WishRecord { wish, cause, at: instance.after_all_wishes(self.0.clock.now()) };
        if !store::set_wish(&tx, instance.id, asked, &may_replace(cause)).await? {
            drop(tx);
            // The cached wish was stale: a concurrent suspension or removal replaced it in the database.
            refuse_unless_wakeable(self.load_committed(instance.id).await?.wish(), cause)?;
            return Err(Error::Conflict(BOTH_ASKED.into()));
        }
        tx.commit().await?;
        instance.take_wish(asked);
        self.nudge(instance);
        Ok(())
    }

    pub(super) async fn wish_in(
        &self,
        tx: &Tx,
        account: AccountId,
        wish: Wish,
        cause: Cause,
        over: &[Wish],
    ) -> Result<Option<InstanceId>> {
        let Some(id) = store::find_by_account(tx, account).await? else { return Ok(None) };
        let now = self.0.clock.now();
        let at = self.by_id(id).map_or(now, |instance| instance.after_all_wishes(now));
        store::set_wish(tx, id, WishRecord { wish, cause, at }, over).await?;
        Ok(Some(id))
    }
}

const BOTH_ASKED: &str = "Another change was requested at the same moment. Please try again.";

pub(super) const ALL_WISHES: [Wish; 6] =
    [Wish::Available, Wish::Frozen, Wish::Stopped, Wish::Removed, Wish::Suspended, Wish::Leaving];

/// The wishes that a new wish with this cause may replace.
fn may_replace(cause: Cause) -> Vec<Wish> {
    ALL_WISHES.into_iter().filter(|wish| refuse_unless_wakeable(*wish, cause).is_ok()).collect()
}

fn refuse_unless_wakeable(wish: Wish, cause: Cause) -> Result<()> {
    match (wish, cause) {
        (Wish::Suspended, Cause::OperatorAsked) => {
            Err(Error::Forbidden("This account is suspended. First lift the suspension: berth user restore HANDLE.".into()))
        }
        (Wish::Suspended, _) => {
            Err(Error::Forbidden("This account is suspended. Ask the operator of this server why.".into()))
        }
        (Wish::Leaving, Cause::OperatorAsked) => {
            Err(Error::Forbidden("This account is scheduled for deletion. First cancel that: berth user cancel-deletion HANDLE.".into()))
        }
        (Wish::Leaving, _) => Err(Error::Forbidden(
            "This account is scheduled for deletion, and its instance sleeps until its files are destroyed. Log in to cancel that.".into(),
        )),
        (Wish::Removed, cause) if cause != Cause::OperatorAsked => Err(Error::Forbidden(
            "The operator removed this instance's container. Its files are kept; ask the operator to wake it.".into(),
        )),
        _ => Ok(()),
    }
}
