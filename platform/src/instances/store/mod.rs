//! The store of the instances module: all its SQL.

mod declared_jobs;
mod rows;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use berth_containers::Slot;
use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait, IdenStatic as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};
use serde::de::DeserializeOwned;

pub(super) use self::declared_jobs::{all_jobs, delete_job, delete_jobs, put_job};
use self::rows::{instance, resting_slot, transition};
use super::rules::{Cause, Fact, Wish};
use super::work::{LastWork, Work};
use super::{InstanceSettings, InstanceStatus, PortList, Transition};
use crate::db::{self, AccountId, Db, InstanceId, Tx, is_duplicate};

/// A row of `instances`, in the module's own types.
#[derive(Debug)]
pub(super) struct InstanceRecord {
    pub id: InstanceId,
    pub account: AccountId,
    pub handle: Handle,
    pub slot: Slot,
    pub settings: InstanceSettings,
    pub ports: PortList,
    pub upgrade: UpgradeProgress,
    pub asked: WishRecord,
    pub fact: Fact,
    pub fact_cause: Cause,
    pub fact_at: Timestamp,
    pub failure: Option<String>,
    pub active_at: Timestamp,
    pub last_work: Option<Work>,
    pub token_hash: Option<Vec<u8>>,
}

/// The persisted progress of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpgradeProgress {
    /// The image id to roll back to when the new container does not become ready; set while an upgrade is in progress.
    pub image_before: Option<String>,
    /// The image id that did not become ready. It is not tried again until the image's name refers to another id.
    pub image_refused: Option<String>,
    /// A container that is not current is replaced without waiting for its next start if it was created before this
    /// time.
    pub renew_at: Timestamp,
}

/// A wish with its cause and the time at which it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WishRecord {
    pub wish: Wish,
    pub cause: Cause,
    pub at: Timestamp,
}

/// Attempts to insert a new row in a free slot. An attempt fails when a concurrent insert takes the slot first.
const TRIES: usize = 8;

/// An instance that has no row yet.
pub(super) struct NewInstance<'a> {
    pub id: InstanceId,
    pub account: AccountId,
    pub handle: &'a Handle,
    pub image: &'a str,
    pub size: &'a str,
}

/// Inserts a row in the lowest free slot; `Conflict` when none of `slots` is free.
pub(super) async fn insert(tx: &Tx, new: NewInstance<'_>, slots: u32, now: Timestamp) -> Result<()> {
    let NewInstance { id, account, handle, image, size } = new;
    let mut row = instance::ActiveModel {
        id: Set(id),
        account_id: Set(account),
        handle: Set(handle.to_string()),
        slot: NotSet,
        image: Set(image.to_owned()),
        wish: Set(Wish::Available.as_str().to_owned()),
        wish_cause: Set(Cause::SignUp.as_str().to_owned()),
        wish_at_ms: Set(now.0),
        fact: Set(Fact::Absent.as_str().to_owned()),
        fact_cause: Set(Cause::SignUp.as_str().to_owned()),
        fact_at_ms: Set(now.0),
        failure: Set(None),
        active_at_ms: Set(now.0),
        last_work: Set(None),
        token_hash: Set(None),
        created_at_ms: Set(now.0),
        size: Set(size.to_owned()),
        freeze_after_seconds: Set(None),
        stop_after_seconds: Set(None),
        remove_after_seconds: Set(None),
        image_before: Set(None),
        image_refused: Set(None),
        renew_at_ms: Set(0),
        ports: Set(String::new()),
    };
    for _ in 0..TRIES {
        row.slot = Set(lowest_free_slot(tx, slots, now).await?);
        // On PostgreSQL two transactions can find the same free slot. The second insert waits for the first and then
        // violates the unique constraint; the savepoint keeps the rest of its transaction, and the next attempt sees
        // the slot as taken.
        let savepoint = tx.savepoint().await?;
        match instance::Entity::insert(row.clone()).exec_without_returning(&savepoint).await {
            Ok(_) => return savepoint.commit().await,
            Err(error) if is_duplicate(&error) => savepoint.rollback().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Conflict("Many people sign up at this moment. Please try again.".into()))
}

/// The lowest slot that no instance has and that is not in quarantine.
async fn lowest_free_slot(tx: &Tx, slots: u32, now: Timestamp) -> Result<i64> {
    resting_slot::Entity::delete_many().filter(resting_slot::Column::FreeAtMs.lte(now.0)).exec(tx).await?;
    // Only in the range of slots, so that no other value that a row may hold stops sign-ups.
    let range = 0..=i64::from(slots);
    let taken = instance::Entity::find().select_only().column(instance::Column::Slot);
    let taken = taken.filter(instance::Column::Slot.between(*range.start(), *range.end()));
    let resting = resting_slot::Entity::find().select_only().column(resting_slot::Column::Slot);
    let resting = resting.filter(resting_slot::Column::Slot.between(*range.start(), *range.end()));
    let mut used: HashSet<i64> = taken.into_tuple().all(tx).await?.into_iter().collect();
    used.extend(resting.into_tuple::<i64>().all(tx).await?);
    (0..i64::from(slots)).find(|slot| !used.contains(slot)).ok_or_else(|| {
        Error::Conflict(
            "Every place on this server is taken. Ask its operator to make room (BERTH_BRIDGES), then try again."
                .into(),
        )
    })
}

/// Deletes an instance with its transitions and jobs, and quarantines its slot until `free_at`, so that no other
/// instance gets its address while old traffic may be in transit.
pub(super) async fn delete(tx: &Tx, id: InstanceId, free_at: Timestamp) -> Result<()> {
    // Row lock: a concurrent writer of a fact commits before the deletion, or finds the row deleted.
    let Some(row) = instance::Entity::find_by_id(id).lock_exclusive().one(tx).await? else { return Ok(()) };
    transition::Entity::delete_many().filter(transition::Column::InstanceId.eq(id)).exec(tx).await?;
    delete_jobs(tx, id).await?;
    instance::Entity::delete_by_id(id).exec(tx).await?;
    let resting = resting_slot::ActiveModel { slot: Set(row.slot), free_at_ms: Set(free_at.0) };
    resting_slot::Entity::insert(resting).exec_without_returning(tx).await?;
    Ok(())
}

/// All instances, ordered by handle.
pub(super) async fn all(db: &Db) -> Result<Vec<InstanceRecord>> {
    db::rows::parsed(db.read(), instance::Entity::find().order_by_asc(instance::Column::Handle), record).await
}

/// The ids of all instances, also of those whose row cannot be parsed.
pub(super) async fn ids(db: &Db) -> Result<HashSet<InstanceId>> {
    let ids = instance::Entity::find().select_only().column(instance::Column::Id);
    let rows = db.read().query_all_raw(ids.build(db.read().get_database_backend())).await?;
    Ok(rows.iter().filter_map(|row| row.try_get("", instance::Column::Id.as_str()).ok()).collect())
}

/// One instance, from the read pool.
pub(super) async fn find(db: &Db, id: InstanceId) -> Result<Option<InstanceRecord>> {
    instance::Entity::find_by_id(id).one(db.read()).await?.map(record).transpose()
}

/// The instance of `account`, inside a transaction.
pub(super) async fn find_by_account(tx: &Tx, account: AccountId) -> Result<Option<InstanceId>> {
    let row = instance::Entity::find().filter(instance::Column::AccountId.eq(account)).one(tx).await?;
    Ok(row.map(|row| row.id))
}

/// Compare-and-set of the wish: replaces one of `over`; `false`, and nothing is written, when the current wish is
/// another.
pub(super) async fn set_wish(tx: &Tx, id: InstanceId, asked: WishRecord, over: &[Wish]) -> Result<bool> {
    let written = instance::Entity::update_many()
        .col_expr(instance::Column::Wish, Expr::value(asked.wish.as_str()))
        .col_expr(instance::Column::WishCause, Expr::value(asked.cause.as_str()))
        .col_expr(instance::Column::WishAtMs, Expr::value(asked.at.0))
        .filter(instance::Column::Id.eq(id))
        .filter(instance::Column::Wish.is_in(over.iter().map(|wish| wish.as_str())))
        .exec(tx)
        .await?;
    Ok(written.rows_affected > 0)
}

/// The fact to write.
pub(super) struct FactRecord<'a> {
    /// The fact that the database holds, for the transition.
    pub before: Fact,
    pub status: &'a InstanceStatus,
    pub active_at: Timestamp,
    pub last_work: Option<LastWork>,
}

/// Writes the fact, and a transition when it differs from the one before.
pub(super) async fn set_fact(tx: &Tx, id: InstanceId, fact: FactRecord<'_>, clock: &Clock) -> Result<()> {
    let FactRecord { before: from, status, active_at, last_work: last } = fact;
    let written = instance::Entity::update_many()
        .col_expr(instance::Column::Fact, Expr::value(status.fact.as_str()))
        .col_expr(instance::Column::FactCause, Expr::value(status.cause.as_str()))
        .col_expr(instance::Column::FactAtMs, Expr::value(status.since.0))
        .col_expr(instance::Column::Failure, Expr::value(status.failure.clone()))
        .col_expr(instance::Column::ActiveAtMs, Expr::value(active_at.0))
        .col_expr(instance::Column::LastWork, Expr::value(last.map(|last| last.work.as_str())))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    // No row: the instance was deleted concurrently, and no transition may be left behind.
    if from == status.fact || written.rows_affected == 0 {
        return Ok(());
    }
    // The last work explains why an instance left the awake state. Every other transition is explained by its cause
    // alone.
    let last = last.filter(|_| from == Fact::Awake);
    let row = transition::ActiveModel {
        id: Set(clock.uuid()),
        instance_id: Set(id),
        at_ms: Set(status.since.0),
        from_fact: Set(from.as_str().to_owned()),
        to_fact: Set(status.fact.as_str().to_owned()),
        cause: Set(status.cause.as_str().to_owned()),
        last_work: Set(last.map(|last| last.work.as_str().to_owned())),
        last_work_at_ms: Set(last.map(|last| last.at.0)),
    };
    transition::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes the hash of the token that the next container will hold.
pub(super) async fn set_token(tx: &Tx, id: InstanceId, hash: &[u8]) -> Result<()> {
    instance::Entity::update_many()
        .col_expr(instance::Column::TokenHash, Expr::value(hash.to_vec()))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Writes the progress of an upgrade.
pub(super) async fn set_upgrade(tx: &Tx, id: InstanceId, upgrade: &UpgradeProgress) -> Result<()> {
    instance::Entity::update_many()
        .col_expr(instance::Column::ImageBefore, Expr::value(upgrade.image_before.clone()))
        .col_expr(instance::Column::ImageRefused, Expr::value(upgrade.image_refused.clone()))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Requests that a container created before `at` be replaced if it is not current.
pub(super) async fn set_renew_at(tx: &Tx, id: InstanceId, at: Timestamp) -> Result<()> {
    instance::Entity::update_many()
        .col_expr(instance::Column::RenewAtMs, Expr::value(at.0))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Writes the settings; `false` when the instance has no row.
pub(super) async fn set_settings(tx: &Tx, id: InstanceId, settings: &InstanceSettings) -> Result<bool> {
    let seconds = |of: Option<Duration>| Expr::value(of.map(|of| i64::try_from(of.as_secs()).unwrap_or(i64::MAX)));
    let written = instance::Entity::update_many()
        .col_expr(instance::Column::Image, Expr::value(settings.image.clone()))
        .col_expr(instance::Column::Size, Expr::value(settings.size.clone()))
        .col_expr(instance::Column::FreezeAfterSeconds, seconds(settings.freeze_after))
        .col_expr(instance::Column::StopAfterSeconds, seconds(settings.stop_after))
        .col_expr(instance::Column::RemoveAfterSeconds, seconds(settings.remove_after))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(written.rows_affected > 0)
}

/// Writes the open ports; `false` when the instance has no row.
pub(super) async fn set_ports(tx: &Tx, id: InstanceId, ports: &PortList) -> Result<bool> {
    let written = instance::Entity::update_many()
        .col_expr(instance::Column::Ports, Expr::value(ports.to_string()))
        .filter(instance::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(written.rows_affected > 0)
}

/// The latest transitions, newest first.
pub(super) async fn history(db: &Db, id: InstanceId, limit: u64) -> Result<Vec<Transition>> {
    let latest = transition::Entity::find()
        .filter(transition::Column::InstanceId.eq(id))
        .order_by_desc(transition::Column::AtMs)
        .limit(limit);
    let read = |row: transition::Model| {
        Ok(Transition {
            at: Timestamp(row.at_ms),
            from: read(&row.from_fact)?,
            to: read(&row.to_fact)?,
            cause: read(&row.cause)?,
            last: match (row.last_work, row.last_work_at_ms) {
                (Some(work), Some(at)) => Some(LastWork { work: read(&work)?, at: Timestamp(at) }),
                _ => None,
            },
        })
    };
    db::rows::parsed(db.read(), latest, read).await
}

fn seconds(stored: Option<i64>) -> Option<Duration> {
    stored.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

fn record(row: instance::Model) -> Result<InstanceRecord> {
    let handle = Handle::parse(&row.handle).context("a stored handle breaks the grammar")?;
    Ok(InstanceRecord {
        id: row.id,
        account: row.account_id,
        handle,
        slot: Slot(u32::try_from(row.slot).context("a stored slot is out of range")?),
        settings: InstanceSettings {
            image: row.image,
            size: row.size,
            freeze_after: seconds(row.freeze_after_seconds),
            stop_after: seconds(row.stop_after_seconds),
            remove_after: seconds(row.remove_after_seconds),
        },
        ports: PortList::parse(&row.ports).context("stored ports are no list of ports")?,
        upgrade: UpgradeProgress {
            image_before: row.image_before,
            image_refused: row.image_refused,
            renew_at: Timestamp(row.renew_at_ms),
        },
        asked: WishRecord { wish: read(&row.wish)?, cause: read(&row.wish_cause)?, at: Timestamp(row.wish_at_ms) },
        fact: read(&row.fact)?,
        fact_cause: read(&row.fact_cause)?,
        fact_at: Timestamp(row.fact_at_ms),
        failure: row.failure,
        active_at: Timestamp(row.active_at_ms),
        last_work: row.last_work.as_deref().map(read).transpose()?,
        token_hash: row.token_hash,
    })
}

/// Parses what `as_str()` of a wish, fact, cause or kind of work wrote.
fn read<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .with_context(|| format!("the database says \"{word}\", which this version does not know"))
        .map_err(Error::Internal)
}
