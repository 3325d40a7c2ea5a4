//! The SQL of this module: the table `certificates`, with one row per reserved name.

use anyhow::Context as _;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait as _, QueryOrder as _, TryInsertResult};

use crate::db::{Db, rows};
use berth_ground::clock::Timestamp;

/// Every reserved name with the time from which it may get a certificate, ordered by that time.
pub(super) async fn all(db: &Db) -> Result<Vec<(Handle, Timestamp)>> {
    let all = certificate::Entity::find().order_by_asc(certificate::Column::FromMs);
    let read = |row: certificate::Model| {
        let handle = Handle::parse(&row.handle).context("the handle of a stored certificate breaks the grammar")?;
        Ok((handle, Timestamp(row.from_ms)))
    };
    rows::parsed(db.read(), all, read).await
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
