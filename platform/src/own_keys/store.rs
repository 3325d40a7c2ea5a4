//! The keys' rows: all SQL of this room.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use super::{KeyRefusal, StoredKey};
use crate::clock::Timestamp;
use crate::db::{AccountId, Db, Tx};
use crate::error::Result;

/// Everybody's, with whose each is and for which provider.
pub(super) async fn all(db: &Db) -> Result<Vec<(AccountId, String, StoredKey)>> {
    let rows = row::Entity::find().all(db.read()).await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.provider.clone(), row.into())).collect())
}

/// Puts `kept` in the place of what the account had for `provider`.
pub(super) async fn put(tx: &Tx, account: AccountId, provider: &str, kept: &StoredKey) -> Result<()> {
    delete(tx, account, provider).await?;
    let row = row::ActiveModel {
        account_id: Set(account),
        provider: Set(provider.to_owned()),
        sealed: Set(kept.sealed.clone()),
        last_four: Set(kept.last_four.clone()),
        added_at_ms: Set(kept.added_at.0),
        refused_at_ms: Set(None),
        refused_status: Set(None),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Whether there was one.
pub(super) async fn delete(tx: &Tx, account: AccountId, provider: &str) -> Result<bool> {
    let deleted = row::Entity::delete_by_id((account, provider.to_owned())).exec(tx).await?;
    Ok(deleted.rows_affected > 0)
}

/// Deletes every key of `account`.
pub(super) async fn forget(tx: &Tx, account: AccountId) -> Result<()> {
    row::Entity::delete_many().filter(row::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

/// Notes that `kept` was refused; one that took its place since is another, as the seal tells.
pub(super) async fn note_refused(
    tx: &Tx,
    (account, provider): (AccountId, &str),
    kept: &StoredKey,
    refused: KeyRefusal,
) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::RefusedAtMs, Expr::value(refused.at.0))
        .col_expr(row::Column::RefusedStatus, Expr::value(i64::from(refused.status)))
        .filter(row::Column::AccountId.eq(account))
        .filter(row::Column::Provider.eq(provider))
        .filter(row::Column::Sealed.eq(kept.sealed.clone()))
        .exec(tx)
        .await?;
    Ok(())
}

impl From<row::Model> for StoredKey {
    fn from(row: row::Model) -> Self {
        let status = row.refused_status.and_then(|status| u16::try_from(status).ok());
        let refused = row.refused_at_ms.zip(status).map(|(at, status)| KeyRefusal { at: Timestamp(at), status });
        Self {
            sealed: row.sealed,
            last_four: row.last_four,
            added_at: Timestamp(row.added_at_ms),
            refused: std::sync::Mutex::new(refused),
        }
    }
}

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "own_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub provider: String,
        pub sealed: Vec<u8>,
        pub last_four: String,
        pub added_at_ms: i64,
        pub refused_at_ms: Option<i64>,
        pub refused_status: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
