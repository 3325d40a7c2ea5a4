//! The rows of declared jobs: SQL for leases that keep an instance awake.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use crate::db::{Db, InstanceId, Tx, rows};
use crate::instances::DeclaredJob;

/// All jobs of all instances that have not expired.
pub(in crate::instances) async fn all_jobs(db: &Db, now: Timestamp) -> Result<Vec<(InstanceId, DeclaredJob)>> {
    let current = job::Entity::find().filter(job::Column::UntilMs.gt(now.0));
    let read = |row: job::Model| {
        let (since, until) = (Timestamp(row.declared_at_ms), Timestamp(row.until_ms));
        Ok((row.instance_id, DeclaredJob { name: row.name, since, until }))
    };
    rows::parsed(db.read(), current, read).await
}

/// Upserts a job by its name, and deletes the instance's expired jobs, which bounds the rows of one instance.
pub(in crate::instances) async fn put_job(
    tx: &Tx,
    instance: InstanceId,
    job: &DeclaredJob,
    now: Timestamp,
) -> Result<()> {
    job::Entity::delete_many()
        .filter(job::Column::InstanceId.eq(instance))
        // Expired jobs stop counting when they expire. Their rows stay until the next declaration or the end of the
        // container.
        .filter(job::Column::UntilMs.lte(now.0))
        .exec(tx)
        .await?;
    let row = job::ActiveModel {
        instance_id: Set(instance),
        name: Set(job.name.clone()),
        declared_at_ms: Set(job.since.0),
        until_ms: Set(job.until.0),
    };
    let again = OnConflict::columns([job::Column::InstanceId, job::Column::Name])
        .update_columns([job::Column::DeclaredAtMs, job::Column::UntilMs])
        .to_owned();
    job::Entity::insert(row).on_conflict(again).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes one job.
pub(in crate::instances) async fn delete_job(tx: &Tx, instance: InstanceId, name: &str) -> Result<()> {
    let one = job::Entity::delete_many().filter(job::Column::InstanceId.eq(instance));
    one.filter(job::Column::Name.eq(name)).exec(tx).await?;
    Ok(())
}

/// Deletes all jobs of an instance.
pub(in crate::instances) async fn delete_jobs(tx: &Tx, instance: InstanceId) -> Result<()> {
    job::Entity::delete_many().filter(job::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

mod job {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "declared_jobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub instance_id: InstanceId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub declared_at_ms: i64,
        pub until_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
