//! The SQL of the table `accounts`.

use std::collections::HashSet;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::{conflict_if_duplicate, unreadable};
use crate::accounts::{AccountState, Role};
use crate::db::{AccountId, Tx, rows};

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: AccountId,
        pub handle: String,
        pub skeleton: String,
        pub role: String,
        pub state: String,
        pub totp_secret: Vec<u8>,
        pub totp_last_step: i64,
        pub totp_failures: i64,
        pub totp_blocked_until_ms: i64,
        pub created_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An account as stored.
#[derive(Clone, Debug)]
pub(in crate::accounts) struct StoredAccount {
    pub(in crate::accounts) id: AccountId,
    pub(in crate::accounts) handle: Handle,
    pub(in crate::accounts) role: Role,
    pub(in crate::accounts) state: AccountState,
    /// Encrypted, with the account's id as associated data.
    pub(in crate::accounts) totp_secret: Vec<u8>,
    /// The newest time step with an accepted code. Codes of this and earlier steps are refused (replay).
    pub(in crate::accounts) totp_last_step: i64,
    /// Wrong codes in a row.
    pub(in crate::accounts) totp_failures: i64,
    pub(in crate::accounts) totp_blocked_until: Timestamp,
    pub(in crate::accounts) created_at: Timestamp,
}

impl TryFrom<row::Model> for StoredAccount {
    type Error = berth_ground::error::Error;

    fn try_from(row: row::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            handle: Handle::parse(&row.handle).map_err(|_| unreadable("a handle"))?,
            role: parse_role(&row.role)?,
            state: parse_state(&row.state),
            totp_secret: row.totp_secret,
            totp_last_step: row.totp_last_step,
            totp_failures: row.totp_failures,
            totp_blocked_until: Timestamp(row.totp_blocked_until_ms),
            created_at: Timestamp(row.created_at_ms),
        })
    }
}

pub(super) fn role_as_str(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
    }
}

pub(super) fn parse_role(word: &str) -> Result<Role> {
    match word {
        "member" => Ok(Role::Member),
        "admin" => Ok(Role::Admin),
        _ => Err(unreadable("a role")),
    }
}

pub(super) fn state_as_str(state: AccountState) -> &'static str {
    match state {
        AccountState::Active => "active",
        AccountState::Suspended => "suspended",
        AccountState::Deleting => "leaving",
        AccountState::Deleted => "gone",
    }
}

pub(super) fn parse_state(word: &str) -> AccountState {
    // Fails closed: a state written by a newer version counts as suspended.
    let known = [AccountState::Active, AccountState::Deleting, AccountState::Deleted];
    known.into_iter().find(|state| state_as_str(*state) == word).unwrap_or(AccountState::Suspended)
}

/// Inserts an account. `Conflict` when an account has the handle or one with the same skeleton (a look-alike).
pub(in crate::accounts) async fn insert_account(tx: &Tx, person: &StoredAccount) -> Result<()> {
    let row = row::ActiveModel {
        id: Set(person.id),
        handle: Set(person.handle.to_string()),
        skeleton: Set(person.handle.skeleton()),
        role: Set(role_as_str(person.role).to_owned()),
        state: Set(state_as_str(person.state).to_owned()),
        totp_secret: Set(person.totp_secret.clone()),
        totp_last_step: Set(person.totp_last_step),
        totp_failures: Set(person.totp_failures),
        totp_blocked_until_ms: Set(person.totp_blocked_until.0),
        created_at_ms: Set(person.created_at.0),
    };
    let written = row::Entity::insert(row).exec_without_returning(tx).await;
    conflict_if_duplicate(written, "That handle was taken in the meantime. Please begin again with another one.")
}

pub(in crate::accounts) async fn account_by_id<C: ConnectionTrait>(
    on: &C,
    id: AccountId,
) -> Result<Option<StoredAccount>> {
    row::Entity::find_by_id(id).one(on).await?.map(StoredAccount::try_from).transpose()
}

pub(in crate::accounts) async fn account_by_handle<C: ConnectionTrait>(
    on: &C,
    handle: &Handle,
) -> Result<Option<StoredAccount>> {
    let found = row::Entity::find().filter(row::Column::Handle.eq(handle.as_str())).one(on).await?;
    found.map(StoredAccount::try_from).transpose()
}

/// The oldest account with a one-time-code secret, and that secret, encrypted. Deleted accounts have none.
pub(in crate::accounts) async fn oldest_totp_secret<C: ConnectionTrait>(
    on: &C,
) -> Result<Option<(AccountId, Vec<u8>)>> {
    // These two columns only: another one that cannot be parsed must not stop the start.
    let rows = row::Entity::find().select_only().columns([row::Column::Id, row::Column::TotpSecret]);
    let none = Vec::<u8>::new();
    let rows = rows.filter(row::Column::TotpSecret.ne(none)).order_by_asc(row::Column::CreatedAtMs).limit(1);
    Ok(rows.into_tuple().one(on).await?)
}

/// Reads an account and locks its row until `tx` ends.
pub(in crate::accounts) async fn lock_account(tx: &Tx, id: AccountId) -> Result<Option<StoredAccount>> {
    // `FOR UPDATE` on PostgreSQL. SQLite has no row locks, but there `tx` is the only writer.
    row::Entity::find_by_id(id).lock_exclusive().one(tx).await?.map(StoredAccount::try_from).transpose()
}

pub(in crate::accounts) async fn has_admin<C: ConnectionTrait>(on: &C) -> Result<bool> {
    let admins = row::Entity::find().filter(row::Column::Role.eq(role_as_str(Role::Admin)));
    Ok(admins.limit(1).one(on).await?.is_some())
}

/// The subset of `skeletons` that belongs to accounts. Equal handles have equal skeletons, so they are found as well.
pub(in crate::accounts) async fn skeletons_of_accounts<C: ConnectionTrait>(
    on: &C,
    skeletons: &[String],
) -> Result<HashSet<String>> {
    let rows = row::Entity::find().filter(row::Column::Skeleton.is_in(skeletons)).all(on).await?;
    Ok(rows.into_iter().map(|row| row.skeleton).collect())
}

/// The accounts sorted by handle, at most `limit`.
pub(in crate::accounts) async fn accounts<C: ConnectionTrait>(on: &C, limit: u64) -> Result<Vec<StoredAccount>> {
    let first = row::Entity::find().order_by_asc(row::Column::Handle).limit(limit);
    rows::parsed(on, first, StoredAccount::try_from).await
}

/// Compare-and-set: marks the code of `step` as used and resets the failure count. `false` when a code of this or a
/// later step was accepted before: of concurrent requests with the same code, one gets `true`.
pub(in crate::accounts) async fn use_code(tx: &Tx, id: AccountId, step: i64) -> Result<bool> {
    let changed = row::Entity::update_many()
        .col_expr(row::Column::TotpLastStep, Expr::value(step))
        .col_expr(row::Column::TotpFailures, Expr::value(0_i64))
        .col_expr(row::Column::TotpBlockedUntilMs, Expr::value(0_i64))
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::TotpLastStep.lt(step))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected == 1)
}

/// Stores the count of wrong codes in a row, and the time until which further codes are refused.
pub(in crate::accounts) async fn note_wrong_code(
    tx: &Tx,
    id: AccountId,
    failures: i64,
    blocked_until: Timestamp,
) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::TotpFailures, Expr::value(failures))
        .col_expr(row::Column::TotpBlockedUntilMs, Expr::value(blocked_until.0))
        .filter(row::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Erases the account's secret and rights. The handle stays, so that it is never reassigned.
pub(in crate::accounts) async fn empty_account(tx: &Tx, id: AccountId) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::Role, Expr::value(role_as_str(Role::Member)))
        .col_expr(row::Column::TotpSecret, Expr::value(Vec::<u8>::new()))
        .filter(row::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Compare-and-set: moves an account from one of the states `from` to `state`. `false` when it was in none of them.
pub(in crate::accounts) async fn set_state(
    tx: &Tx,
    id: AccountId,
    from: &[AccountState],
    state: AccountState,
) -> Result<bool> {
    let changed = row::Entity::update_many()
        .col_expr(row::Column::State, Expr::value(state_as_str(state)))
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::State.is_in(from.iter().map(|state| state_as_str(*state))))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected == 1)
}
