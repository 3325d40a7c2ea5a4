//! The SQL of this module: the table `shares`.

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait as _, EntityTrait, PaginatorTrait as _, QueryFilter as _, QueryOrder as _};

use super::rules::{ShareAudience, audience_columns};
use super::share::{Share, ShareId};
use crate::db::{Db, InstanceId, Tx, rows};

/// The shares of all instances, the oldest first.
pub(super) async fn all(db: &Db) -> Result<Vec<(InstanceId, Share)>> {
    let all = row::Entity::find().order_by_asc(row::Column::MadeAtMs);
    rows::parsed(db.read(), all, |row| Ok((row.instance_id, row.try_into()?))).await
}

/// The shares of one instance, the oldest first.
pub(super) async fn of(db: &Db, instance: InstanceId) -> Result<Vec<Share>> {
    let theirs = row::Entity::find().filter(row::Column::InstanceId.eq(instance)).order_by_asc(row::Column::MadeAtMs);
    rows::parsed(db.read(), theirs, Share::try_from).await
}

pub(super) async fn count(tx: &Tx, instance: InstanceId) -> Result<u64> {
    Ok(row::Entity::find().filter(row::Column::InstanceId.eq(instance)).count(tx).await?)
}

pub(super) async fn insert(tx: &Tx, instance: InstanceId, share: &Share) -> Result<()> {
    let (audience, handle) = audience_columns(&share.audience);
    let row = row::ActiveModel {
        id: Set(share.id.0),
        instance_id: Set(instance),
        path: Set(share.path.clone()),
        audience: Set(audience.to_owned()),
        handle: Set(handle.to_owned()),
        made_at_ms: Set(share.made_at.0),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes a share and returns it; `None` when the instance has no such share.
pub(super) async fn delete(tx: &Tx, instance: InstanceId, id: ShareId) -> Result<Option<Share>> {
    let theirs = row::Entity::find_by_id(id.0).filter(row::Column::InstanceId.eq(instance));
    let Some(row) = theirs.one(tx).await? else { return Ok(None) };
    row::Entity::delete_by_id(id.0).exec(tx).await?;
    Ok(Some(row.try_into()?))
}

/// Deletes every share of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    row::Entity::delete_many().filter(row::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

/// Deletes every share with the account `guest`.
pub(super) async fn forget_guest(tx: &Tx, guest: &Handle) -> Result<()> {
    row::Entity::delete_many().filter(row::Column::Handle.eq(guest.as_str())).exec(tx).await?;
    Ok(())
}

impl TryFrom<row::Model> for Share {
    type Error = berth_ground::error::Error;

    fn try_from(row: row::Model) -> Result<Self> {
        let audience = match row.audience.as_str() {
            "account" => {
                ShareAudience::Account { handle: Handle::parse(&row.handle).context("reading a share's handle")? }
            }
            "signed_in" => ShareAudience::SignedIn,
            "everyone_while_awake" => ShareAudience::Everyone { wakes: false },
            "everyone" => ShareAudience::Everyone { wakes: true },
            other => return Err(anyhow::anyhow!("a share in the database has the unknown audience {other}").into()),
        };
        Ok(Self { id: ShareId(row.id), path: row.path, audience, made_at: Timestamp(row.made_at_ms) })
    }
}

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "shares")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub instance_id: InstanceId,
        pub path: String,
        pub audience: String,
        pub handle: String,
        pub made_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
