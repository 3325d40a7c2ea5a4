//! The store of operations: all SQL of the tables `jobs` and `installation`.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, TryInsertResult};
use uuid::Uuid;

use crate::db::Db;

/// Enqueues a job; a row of the same name and due time is left as it is (idempotent).
pub(super) async fn enqueue(db: &Db, id: Uuid, name: &str, due: Timestamp) -> Result<()> {
    let row = job::ActiveModel {
        id: Set(id),
        kind: Set(name.to_owned()),
        due_at_ms: Set(due.0),
        leased_until_ms: Set(0),
        attempts: Set(0),
        done_at_ms: Set(None),
    };
    let tx = db.begin().await?;
    let same = OnConflict::columns([job::Column::Kind, job::Column::DueAtMs]).do_nothing().to_owned();
    let _: TryInsertResult<u64> =
        job::Entity::insert(row).on_conflict(same).try_insert().exec_without_returning(&tx).await?;
    tx.commit().await
}

/// Leases, until `until`, the job that has been due the longest and is not leased by another worker.
pub(super) async fn lease(db: &Db, now: Timestamp, until: Timestamp) -> Result<Option<(Uuid, String)>> {
    let tx = db.begin().await?;
    let due = job::Entity::find()
        .filter(job::Column::DoneAtMs.is_null())
        .filter(job::Column::DueAtMs.lte(now.0))
        .filter(job::Column::LeasedUntilMs.lte(now.0))
        .order_by_asc(job::Column::DueAtMs)
        .one(&tx)
        .await?;
    let Some(due) = due else { return Ok(None) };
    // Compare-and-set: on PostgreSQL another process may have leased the row between the two statements, and then no
    // row changes.
    let taken = job::Entity::update_many()
        .col_expr(job::Column::LeasedUntilMs, Expr::value(until.0))
        .col_expr(job::Column::Attempts, Expr::col(job::Column::Attempts).add(1))
        .filter(job::Column::Id.eq(due.id))
        .filter(job::Column::LeasedUntilMs.lte(now.0))
        .exec(&tx)
        .await?;
    tx.commit().await?;
    Ok((taken.rows_affected == 1).then_some((due.id, due.kind)))
}

/// Marks a job as done.
pub(super) async fn done(db: &Db, id: Uuid, now: Timestamp) -> Result<()> {
    let tx = db.begin().await?;
    job::Entity::update_many()
        .col_expr(job::Column::DoneAtMs, Expr::value(now.0))
        .filter(job::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    tx.commit().await
}

/// Deletes the jobs that were done before `before`, and returns their number.
pub(super) async fn purge(db: &Db, before: Timestamp) -> Result<u64> {
    let tx = db.begin().await?;
    let gone = job::Entity::delete_many().filter(job::Column::DoneAtMs.lt(before.0)).exec(&tx).await?;
    tx.commit().await?;
    Ok(gone.rows_affected)
}

/// The name of the row with the check value of `BERTH_SECRET`.
const SECRET_CHECK: &str = "secret_check";

/// The recorded check value of `BERTH_SECRET`.
pub(super) async fn secret_check(db: &Db) -> Result<Option<Vec<u8>>> {
    let row = installation::Entity::find_by_id(SECRET_CHECK).one(db.read()).await?;
    Ok(row.map(|row| row.value))
}

/// Records the check value of `BERTH_SECRET`; a recorded one is left as it is.
pub(super) async fn record_secret_check(db: &Db, value: &[u8]) -> Result<()> {
    let row = installation::ActiveModel { name: Set(SECRET_CHECK.to_owned()), value: Set(value.to_owned()) };
    let tx = db.begin().await?;
    let same = OnConflict::column(installation::Column::Name).do_nothing().to_owned();
    let _: TryInsertResult<u64> =
        installation::Entity::insert(row).on_conflict(same).try_insert().exec_without_returning(&tx).await?;
    tx.commit().await
}

mod job {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "jobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub kind: String,
        pub due_at_ms: i64,
        pub leased_until_ms: i64,
        pub attempts: i64,
        pub done_at_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod installation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "installation")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub value: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
