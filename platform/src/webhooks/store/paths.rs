//! The SQL of open webhook paths.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, TryInsertResult};

use crate::db::{Db, InstanceId, Tx, rows};

/// Every open path, with its instance and opening time.
pub(in crate::webhooks) async fn paths(db: &Db) -> Result<Vec<(InstanceId, String, Timestamp)>> {
    let all = webhook_path::Entity::find().order_by_asc(webhook_path::Column::Path);
    rows::parsed(db.read(), all, |row| Ok((row.instance_id, row.path, Timestamp(row.opened_at_ms)))).await
}

/// Inserts an open path; `false` when it is already open.
pub(in crate::webhooks) async fn open_path(tx: &Tx, instance: InstanceId, path: &str, now: Timestamp) -> Result<bool> {
    let row =
        webhook_path::ActiveModel { instance_id: Set(instance), path: Set(path.to_owned()), opened_at_ms: Set(now.0) };
    let same =
        OnConflict::columns([webhook_path::Column::InstanceId, webhook_path::Column::Path]).do_nothing().to_owned();
    let written = webhook_path::Entity::insert(row).on_conflict(same).try_insert().exec_without_returning(tx).await?;
    Ok(matches!(written, TryInsertResult::Inserted(1)))
}

/// Deletes an open path; `false` when it was not open.
pub(in crate::webhooks) async fn close_path(tx: &Tx, instance: InstanceId, path: &str) -> Result<bool> {
    let gone = webhook_path::Entity::delete_many()
        .filter(webhook_path::Column::InstanceId.eq(instance))
        .filter(webhook_path::Column::Path.eq(path))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected > 0)
}

/// Deletes every path of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    webhook_path::Entity::delete_many().filter(webhook_path::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

mod webhook_path {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhook_paths")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub instance_id: InstanceId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub path: String,
        pub opened_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
