//! The SQL of this module: the table `own_keys`.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;

use super::stored_key::{KeyId, KeyRefusal, StoredKey};
use crate::db::{AccountId, Db, Tx, rows};

/// The keys of all accounts.
pub(super) async fn all(db: &Db) -> Result<Vec<(KeyId, StoredKey)>> {
    let id = |row: &row::Model| KeyId { account: row.account_id, provider: row.provider.clone() };
    rows::parsed(db.read(), row::Entity::find(), |row| Ok((id(&row), row.into()))).await
}

/// Stores a key, replacing the one with the same id.
pub(super) async fn put(tx: &Tx, id: &KeyId, key: &StoredKey) -> Result<()> {
    delete(tx, id).await?;
    let row = row::ActiveModel {
        account_id: Set(id.account),
        provider: Set(id.provider.clone()),
        sealed: Set(key.sealed.clone()),
        last_four: Set(key.last_four.clone()),
        added_at_ms: Set(key.added_at.0),
        refused_at_ms: Set(None),
        refused_status: Set(None),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes a key; `false` when there is none.
pub(super) async fn delete(tx: &Tx, id: &KeyId) -> Result<bool> {
    let deleted = row::Entity::delete_by_id((id.account, id.provider.clone())).exec(tx).await?;
    Ok(deleted.rows_affected > 0)
}

/// Deletes every key of `account`.
pub(super) async fn forget(tx: &Tx, account: AccountId) -> Result<()> {
    row::Entity::delete_many().filter(row::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

/// Stores the last refusal of `key`.
pub(super) async fn note_refused(tx: &Tx, id: &KeyId, key: &StoredKey, refused: KeyRefusal) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::RefusedAtMs, Expr::value(refused.at.0))
        .col_expr(row::Column::RefusedStatus, Expr::value(i64::from(refused.status)))
        .filter(row::Column::AccountId.eq(id.account))
        .filter(row::Column::Provider.eq(&id.provider))
        // The owner may have replaced the key while its call was in flight. The new key was not refused; its ciphertext
        // differs even for the same text, because each encryption uses a new nonce.
        .filter(row::Column::Sealed.eq(key.sealed.clone()))
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
