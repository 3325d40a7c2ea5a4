//! The store of the alarms module: all its SQL.

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, Expr, ExprTrait as _, IntoCondition as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, EntityTrait, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::alarm::Alarm;
use super::rules::Schedule;
use crate::db::{Db, InstanceId, Tx, rows};

/// How many alarms an instance has besides the one of this name.
pub(super) async fn others(tx: &Tx, instance: InstanceId, name: &str) -> Result<u64> {
    let others = alarm::Entity::find()
        .filter(alarm::Column::InstanceId.eq(instance))
        .filter(alarm::Column::Name.ne(name))
        .count(tx)
        .await?;
    Ok(others)
}

/// Upserts an alarm by its name.
pub(super) async fn put(tx: &Tx, instance: InstanceId, alarm: &Alarm) -> Result<()> {
    let (at, cron) = match &alarm.schedule {
        Schedule::At(at) => (Some(at.0), None),
        Schedule::Cron(pattern) => (None, Some(pattern.clone())),
    };
    let row = alarm::ActiveModel {
        instance_id: Set(instance),
        name: Set(alarm.name.clone()),
        at_ms: Set(at),
        cron: Set(cron),
        path: Set(alarm.path.clone()),
        set_at_ms: Set(alarm.set_at.0),
        due_at_ms: Set(alarm.due.0),
    };
    let same = OnConflict::columns([alarm::Column::InstanceId, alarm::Column::Name])
        .update_columns([
            alarm::Column::AtMs,
            alarm::Column::Cron,
            alarm::Column::Path,
            alarm::Column::SetAtMs,
            alarm::Column::DueAtMs,
        ])
        .to_owned();
    alarm::Entity::insert(row).on_conflict(same).exec_without_returning(tx).await?;
    Ok(())
}

/// An instance's alarms, sorted by name.
pub(super) async fn of(db: &Db, instance: InstanceId) -> Result<Vec<Alarm>> {
    let theirs = alarm::Entity::find().filter(alarm::Column::InstanceId.eq(instance)).order_by_asc(alarm::Column::Name);
    rows::parsed(db.read(), theirs, |row| Ok(read(row)?.1)).await
}

/// Deletes an alarm; `false` when there is none of that name.
pub(super) async fn delete(tx: &Tx, instance: InstanceId, name: &str) -> Result<bool> {
    let gone = alarm::Entity::delete_by_id((instance, name.to_owned())).exec(tx).await?;
    Ok(gone.rows_affected > 0)
}

/// Alarms that are due, the earliest first, at most `limit`.
pub(super) async fn due(db: &Db, now: Timestamp, limit: u64) -> Result<Vec<(InstanceId, Alarm)>> {
    let due = alarm::Entity::find()
        .filter(has_one_schedule())
        .filter(alarm::Column::DueAtMs.lte(now.0))
        .order_by_asc(alarm::Column::DueAtMs)
        .limit(limit);
    rows::parsed(db.read(), due, read).await
}

/// Advances an alarm to its next time, or deletes it; `false`, and nothing is written, when the row changed since it
/// was read.
pub(super) async fn advance(tx: &Tx, instance: InstanceId, alarm: &Alarm, next: Option<Timestamp>) -> Result<bool> {
    // A compare-and-set on the row that was read: its program may have set the alarm again between the query and this
    // statement, and the new schedule must neither ring now nor be advanced.
    let as_read = alarm::Column::InstanceId
        .eq(instance)
        .and(alarm::Column::Name.eq(&alarm.name))
        .and(alarm::Column::DueAtMs.eq(alarm.due.0))
        .and(alarm::Column::SetAtMs.eq(alarm.set_at.0));
    let moved = match next {
        Some(next) => {
            let update = alarm::Entity::update_many().col_expr(alarm::Column::DueAtMs, Expr::value(next.0));
            update.filter(as_read).exec(tx).await?.rows_affected
        }
        None => alarm::Entity::delete_many().filter(as_read).exec(tx).await?.rows_affected,
    };
    Ok(moved > 0)
}

/// When the next alarm of any instance is due.
pub(super) async fn next_due(db: &Db) -> Result<Option<Timestamp>> {
    let next: Option<Option<i64>> = alarm::Entity::find()
        .select_only()
        .column_as(alarm::Column::DueAtMs.min(), "due_at_ms")
        .filter(has_one_schedule())
        .into_tuple()
        .one(db.read())
        .await?;
    Ok(next.flatten().map(Timestamp))
}

/// How many alarms there are.
pub(super) async fn count(db: &Db) -> Result<u64> {
    Ok(alarm::Entity::find().count(db.read()).await?)
}

/// Deletes every alarm of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    alarm::Entity::delete_many().filter(alarm::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

/// What [`read`] demands. An alarm without it never comes due: at the head of the queue it would be read again each
/// second and keep others waiting.
fn has_one_schedule() -> Condition {
    let (at, cron) = (alarm::Column::AtMs, alarm::Column::Cron);
    let once = at.is_not_null().and(cron.is_null());
    once.or(at.is_null().and(cron.is_not_null())).into_condition()
}

/// Logs the alarms that never come due.
pub(super) async fn log_unreadable(db: &Db) -> Result<()> {
    rows::parsed(db.read(), alarm::Entity::find().filter(has_one_schedule().not()), read).await?;
    Ok(())
}

fn read(row: alarm::Model) -> Result<(InstanceId, Alarm)> {
    // The table has no constraint for it: exactly one of the two columns is set.
    let schedule = match (row.at_ms, row.cron) {
        (Some(at), None) => Schedule::At(Timestamp(at)),
        (None, cron) => Schedule::Cron(cron.context("a stored alarm has no time")?),
        (Some(_), Some(_)) => return Err(anyhow::anyhow!("a stored alarm has two times").into()),
    };
    let (name, path) = (row.name, row.path);
    let (set_at, due) = (Timestamp(row.set_at_ms), Timestamp(row.due_at_ms));
    Ok((row.instance_id, Alarm { name, schedule, path, set_at, due }))
}

mod alarm {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "alarms")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub instance_id: InstanceId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub at_ms: Option<i64>,
        pub cron: Option<String>,
        pub path: Option<String>,
        pub set_at_ms: i64,
        pub due_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
