//! The SQL of this module: the table `certificates`, with one row per reserved name.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait as _, QueryOrder as _, TryInsertResult};

use crate::db::Db;

/// Every reserved name with the time from which it may get a certificate, ordered by that time.
pub(super) async fn all(db: &Db) -> Result<Vec<(Handle, Timestamp)>> {
    let rows = certificate::Entity::find().order_by_asc(certificate::Column::FromMs).all(db.read()).await?;
    let read = rows.into_iter().filter_map(|row| Some((Handle::parse(&row.handle).ok()?, Timestamp(row.from_ms))));
    Ok(read.collect())
}

/// Inserts a reservation, unless the name has one already.
pub(super) async fn add(db: &Db, handle: &Handle, from: Timestamp) -> Result<()> {
    let row = certificate::ActiveModel { handle: Set(handle.as_str().to_owned()), from_ms: Set(from.0) };
    let tx = db.begin().await?;
    // Idempotent: after a retry whose first answer was lost, or with a second process, the first row wins.
    let same = OnConflict::column(certificate::Column::Handle).do_nothing().to_owned();
    let _: TryInsertResult<u64> =
        certificate::Entity::insert(row).on_conflict(same).try_insert().exec_without_returning(&tx).await?;
    tx.commit().await
}

mod certificate {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "certificates")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub handle: String,
        pub from_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
