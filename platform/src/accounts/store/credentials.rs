//! The SQL of credentials: `passkeys`, `recovery_codes`, and `devices` (known browsers).

use std::collections::HashMap;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Query;
use sea_orm::{QueryOrder as _, QuerySelect as _};
use webauthn_rs::prelude::Passkey;

use super::{PURGE_BATCH, conflict_if_duplicate, unreadable};
use crate::db::{AccountId, Tx, rows};

mod passkeys {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "passkeys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub account_id: AccountId,
        pub credential_id: Vec<u8>,
        pub passkey: String,
        pub name: String,
        pub created_at_ms: i64,
        pub last_used_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod recovery_codes {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "recovery_codes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub code_hash: Vec<u8>,
        pub account_id: AccountId,
        pub used_at_ms: Option<i64>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod devices {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "devices")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: Vec<u8>,
        pub account_id: AccountId,
        pub created_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A passkey as stored.
#[derive(Clone, Debug)]
pub(in crate::accounts) struct StoredPasskey {
    pub(in crate::accounts) id: Uuid,
    pub(in crate::accounts) account: AccountId,
    pub(in crate::accounts) passkey: Passkey,
    pub(in crate::accounts) name: String,
    pub(in crate::accounts) created_at: Timestamp,
    pub(in crate::accounts) last_used_at: Timestamp,
}

impl TryFrom<passkeys::Model> for StoredPasskey {
    type Error = berth_ground::error::Error;

    fn try_from(row: passkeys::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            account: row.account_id,
            passkey: passkey_from(&row.passkey)?,
            name: row.name,
            created_at: Timestamp(row.created_at_ms),
            last_used_at: Timestamp(row.last_used_at_ms),
        })
    }
}

pub(super) fn passkey_text(passkey: &Passkey) -> Result<String> {
    serde_json::to_string(passkey).map_err(|error| anyhow::Error::new(error).context("writing a passkey").into())
}

pub(super) fn passkey_from(text: &str) -> Result<Passkey> {
    serde_json::from_str(text).map_err(|_| unreadable("a passkey"))
}

/// Inserts a passkey. `Conflict` when the credential is already registered, for this or another account.
pub(in crate::accounts) async fn insert_passkey(tx: &Tx, stored: &StoredPasskey) -> Result<()> {
    let row = passkeys::ActiveModel {
        id: Set(stored.id),
        account_id: Set(stored.account),
        credential_id: Set(stored.passkey.cred_id().to_vec()),
        passkey: Set(passkey_text(&stored.passkey)?),
        name: Set(stored.name.clone()),
        created_at_ms: Set(stored.created_at.0),
        last_used_at_ms: Set(stored.last_used_at.0),
    };
    let written = passkeys::Entity::insert(row).exec_without_returning(tx).await;
    conflict_if_duplicate(written, "That passkey is registered already. Please make another one.")
}

pub(in crate::accounts) async fn passkey_by_credential<C: ConnectionTrait>(
    on: &C,
    credential_id: &[u8],
) -> Result<Option<StoredPasskey>> {
    let found = passkeys::Entity::find().filter(passkeys::Column::CredentialId.eq(credential_id)).one(on).await?;
    found.map(StoredPasskey::try_from).transpose()
}

/// The passkeys of `account`, the oldest first.
pub(in crate::accounts) async fn passkeys_of<C: ConnectionTrait>(
    on: &C,
    account: AccountId,
) -> Result<Vec<StoredPasskey>> {
    let theirs = passkeys::Entity::find()
        .filter(passkeys::Column::AccountId.eq(account))
        .order_by_asc(passkeys::Column::CreatedAtMs);
    rows::parsed(on, theirs, StoredPasskey::try_from).await
}

/// Compare-and-set: stores the signature counter and backup state after a login, if the row still holds `before`, the
/// version against which the assertion was verified. `false` when it does not.
pub(in crate::accounts) async fn save_passkey_use(
    tx: &Tx,
    stored: &StoredPasskey,
    before: &Passkey,
    now: Timestamp,
) -> Result<bool> {
    let Some(row) = passkeys::Entity::find_by_id(stored.id).one(tx).await? else { return Ok(false) };
    // Compared after parsing and serializing again: the row may have the format of an older version of webauthn-rs.
    if passkey_text(&passkey_from(&row.passkey)?)? != passkey_text(before)? {
        return Ok(false);
    }
    let saved = passkeys::Entity::update_many()
        .col_expr(passkeys::Column::Passkey, Expr::value(passkey_text(&stored.passkey)?))
        .col_expr(passkeys::Column::LastUsedAtMs, Expr::value(now.0))
        .filter(passkeys::Column::Id.eq(stored.id))
        // On PostgreSQL a concurrent transaction may have changed the row since it was read above.
        .filter(passkeys::Column::Passkey.eq(row.passkey))
        .exec(tx)
        .await?;
    Ok(saved.rows_affected == 1)
}

pub(in crate::accounts) async fn remove_passkey(tx: &Tx, id: Uuid) -> Result<()> {
    passkeys::Entity::delete_by_id(id).exec(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn remove_passkeys_of(tx: &Tx, account: AccountId) -> Result<()> {
    passkeys::Entity::delete_many().filter(passkeys::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

/// The number of passkeys per account; with `account`, of that one only.
pub(in crate::accounts) async fn count_passkeys<C: ConnectionTrait>(
    on: &C,
    account: Option<AccountId>,
) -> Result<HashMap<AccountId, u64>> {
    let mut query = passkeys::Entity::find()
        .select_only()
        .column(passkeys::Column::AccountId)
        .column_as(passkeys::Column::Id.count(), "n")
        .group_by(passkeys::Column::AccountId);
    if let Some(account) = account {
        query = query.filter(passkeys::Column::AccountId.eq(account));
    }
    counted(query.into_tuple().all(on).await?)
}

pub(in crate::accounts) async fn insert_recovery_codes(
    tx: &Tx,
    account: AccountId,
    hashes: impl IntoIterator<Item = Vec<u8>>,
) -> Result<()> {
    let rows = hashes.into_iter().map(|hash| recovery_codes::ActiveModel {
        code_hash: Set(hash),
        account_id: Set(account),
        used_at_ms: Set(None),
    });
    recovery_codes::Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn remove_recovery_codes(tx: &Tx, account: AccountId) -> Result<()> {
    recovery_codes::Entity::delete_many().filter(recovery_codes::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

/// Whether `hash` is an unused recovery code of `account`.
pub(in crate::accounts) async fn has_recovery_code(tx: &Tx, account: AccountId, hash: &[u8]) -> Result<bool> {
    let found = recovery_codes::Entity::find()
        .filter(recovery_codes::Column::CodeHash.eq(hash))
        .filter(recovery_codes::Column::AccountId.eq(account))
        .filter(recovery_codes::Column::UsedAtMs.is_null())
        .one(tx)
        .await?;
    Ok(found.is_some())
}

/// Compare-and-set: marks the code as used. `false` when it does not exist or was used: of concurrent calls one gets
/// `true`.
pub(in crate::accounts) async fn use_recovery_code(
    tx: &Tx,
    account: AccountId,
    hash: &[u8],
    now: Timestamp,
) -> Result<bool> {
    let changed = recovery_codes::Entity::update_many()
        .col_expr(recovery_codes::Column::UsedAtMs, Expr::value(now.0))
        .filter(recovery_codes::Column::CodeHash.eq(hash))
        .filter(recovery_codes::Column::AccountId.eq(account))
        .filter(recovery_codes::Column::UsedAtMs.is_null())
        .exec(tx)
        .await?;
    Ok(changed.rows_affected == 1)
}

/// The number of unused recovery codes per account; with `account`, of that one only.
pub(in crate::accounts) async fn count_recovery_codes<C: ConnectionTrait>(
    on: &C,
    account: Option<AccountId>,
) -> Result<HashMap<AccountId, u64>> {
    let mut query = recovery_codes::Entity::find()
        .select_only()
        .column(recovery_codes::Column::AccountId)
        .column_as(recovery_codes::Column::CodeHash.count(), "n")
        .filter(recovery_codes::Column::UsedAtMs.is_null())
        .group_by(recovery_codes::Column::AccountId);
    if let Some(account) = account {
        query = query.filter(recovery_codes::Column::AccountId.eq(account));
    }
    counted(query.into_tuple().all(on).await?)
}

fn counted(rows: Vec<(AccountId, i64)>) -> Result<HashMap<AccountId, u64>> {
    rows.into_iter().map(|(id, n)| Ok((id, u64::try_from(n).map_err(|_| unreadable("a count"))?))).collect()
}

pub(in crate::accounts) async fn insert_device(
    tx: &Tx,
    account: AccountId,
    hash: Vec<u8>,
    now: Timestamp,
) -> Result<()> {
    let row = devices::ActiveModel { token_hash: Set(hash), account_id: Set(account), created_at_ms: Set(now.0) };
    devices::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Whether `hash` is the device token of a browser that logged in to `account` after `since`.
pub(in crate::accounts) async fn has_device<C: ConnectionTrait>(
    on: &C,
    account: AccountId,
    hash: &[u8],
    since: Timestamp,
) -> Result<bool> {
    let found = devices::Entity::find_by_id(hash.to_vec())
        .filter(devices::Column::AccountId.eq(account))
        .filter(devices::Column::CreatedAtMs.gt(since.0))
        .one(on)
        .await?;
    Ok(found.is_some())
}

pub(in crate::accounts) async fn forget_device(tx: &Tx, account: AccountId, hash: &[u8]) -> Result<()> {
    devices::Entity::delete_many()
        .filter(devices::Column::TokenHash.eq(hash))
        .filter(devices::Column::AccountId.eq(account))
        .exec(tx)
        .await?;
    Ok(())
}

/// Deletes every known browser of `account`.
pub(in crate::accounts) async fn forget_devices_of(tx: &Tx, account: AccountId) -> Result<()> {
    devices::Entity::delete_many().filter(devices::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

/// Deletes browsers whose last login was before `until`. Returns their number.
pub(in crate::accounts) async fn purge_devices(tx: &Tx, until: Timestamp) -> Result<u64> {
    let old = Query::select()
        .column(devices::Column::TokenHash)
        .from(devices::Entity)
        .and_where(devices::Column::CreatedAtMs.lte(until.0))
        .limit(PURGE_BATCH)
        .to_owned();
    let gone = devices::Entity::delete_many().filter(devices::Column::TokenHash.in_subquery(old)).exec(tx).await?;
    Ok(gone.rows_affected)
}
