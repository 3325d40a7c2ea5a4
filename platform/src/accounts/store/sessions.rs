//! The SQL of the table `sessions`.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Query;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::PURGE_BATCH;
use crate::db::{AccountId, SessionId, Tx, rows};

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, SessionId};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "sessions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: SessionId,
        pub token_hash: Vec<u8>,
        pub account_id: AccountId,
        pub audience: String,
        pub parent_id: Option<SessionId>,
        pub method: String,
        pub user_agent: String,
        pub ip: String,
        pub created_at_ms: i64,
        pub last_used_at_ms: i64,
        pub expires_at_ms: i64,
        pub passkey_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A session as stored.
#[derive(Clone, Debug)]
pub(in crate::accounts) struct StoredSession {
    pub(in crate::accounts) id: SessionId,
    pub(in crate::accounts) account: AccountId,
    pub(in crate::accounts) audience: String,
    /// The session on the app host from which this one was derived. They end together (foreign key with `ON DELETE
    /// CASCADE`).
    pub(in crate::accounts) parent: Option<SessionId>,
    /// The factors used, as [`LogInMethod`](crate::accounts) writes them.
    pub(in crate::accounts) method: String,
    /// Browser and system only ("Chrome on Linux"), not the whole header.
    pub(in crate::accounts) user_agent: String,
    /// Without its last part.
    pub(in crate::accounts) ip: String,
    pub(in crate::accounts) created_at: Timestamp,
    pub(in crate::accounts) last_used_at: Timestamp,
    pub(in crate::accounts) expires_at: Timestamp,
    /// When the person last authenticated, by a passkey or a recovery code. Step-up authentication requires a recent
    /// time.
    pub(in crate::accounts) passkey_at: Timestamp,
}

impl From<row::Model> for StoredSession {
    fn from(row: row::Model) -> Self {
        Self {
            id: row.id,
            account: row.account_id,
            audience: row.audience,
            parent: row.parent_id,
            method: row.method,
            user_agent: row.user_agent,
            ip: row.ip,
            created_at: Timestamp(row.created_at_ms),
            last_used_at: Timestamp(row.last_used_at_ms),
            expires_at: Timestamp(row.expires_at_ms),
            passkey_at: Timestamp(row.passkey_at_ms),
        }
    }
}

/// Inserts a session, and evicts the oldest of the same account and audience beyond `most`.
pub(in crate::accounts) async fn insert_session(
    tx: &Tx,
    token_hash: Vec<u8>,
    session: &StoredSession,
    most: u64,
) -> Result<()> {
    let row = row::ActiveModel {
        id: Set(session.id),
        token_hash: Set(token_hash),
        account_id: Set(session.account),
        audience: Set(session.audience.clone()),
        parent_id: Set(session.parent),
        method: Set(session.method.clone()),
        user_agent: Set(session.user_agent.clone()),
        ip: Set(session.ip.clone()),
        created_at_ms: Set(session.created_at.0),
        last_used_at_ms: Set(session.last_used_at.0),
        expires_at_ms: Set(session.expires_at.0),
        passkey_at_ms: Set(session.passkey_at.0),
    };
    let of_the_same = row::Entity::find()
        .filter(row::Column::AccountId.eq(session.account))
        .filter(row::Column::Audience.eq(session.audience.as_str()));
    let beyond: Vec<SessionId> = of_the_same
        .select_only()
        .column(row::Column::Id)
        .order_by_desc(row::Column::CreatedAtMs)
        .offset(most.saturating_sub(1))
        .limit(PURGE_BATCH)
        .into_tuple()
        .all(tx)
        .await?;
    if !beyond.is_empty() {
        row::Entity::delete_many().filter(row::Column::Id.is_in(beyond)).exec(tx).await?;
    }
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// The session with this token hash. A token of one audience is not valid on another host.
pub(in crate::accounts) async fn session_by_token<C: ConnectionTrait>(
    on: &C,
    audience: &str,
    token_hash: &[u8],
) -> Result<Option<StoredSession>> {
    let found = row::Entity::find()
        .filter(row::Column::TokenHash.eq(token_hash))
        .filter(row::Column::Audience.eq(audience))
        .one(on)
        .await?;
    Ok(found.map(StoredSession::from))
}

pub(in crate::accounts) async fn session<C: ConnectionTrait>(on: &C, id: SessionId) -> Result<Option<StoredSession>> {
    Ok(row::Entity::find_by_id(id).one(on).await?.map(StoredSession::from))
}

/// The sessions of `account` on `audience`, the last used first.
pub(in crate::accounts) async fn sessions_of<C: ConnectionTrait>(
    on: &C,
    account: AccountId,
    audience: &str,
) -> Result<Vec<StoredSession>> {
    let theirs = row::Entity::find()
        .filter(row::Column::AccountId.eq(account))
        .filter(row::Column::Audience.eq(audience))
        .order_by_desc(row::Column::LastUsedAtMs);
    rows::parsed(on, theirs, |row| Ok(row.into())).await
}

/// Stores the session's last use, unless a concurrent request stored a time after `unless_after`.
pub(in crate::accounts) async fn touch_session(
    tx: &Tx,
    id: SessionId,
    now: Timestamp,
    unless_after: Timestamp,
) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::LastUsedAtMs, Expr::value(now.0))
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::LastUsedAtMs.lte(unless_after.0))
        .exec(tx)
        .await?;
    Ok(())
}

/// Deletes a session of `account`, and with it the sessions derived from it. `false` when there is no such session.
pub(in crate::accounts) async fn end_session(tx: &Tx, account: AccountId, id: SessionId) -> Result<bool> {
    let gone = row::Entity::delete_many()
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::AccountId.eq(account))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected == 1)
}

pub(in crate::accounts) async fn end_sessions_of(tx: &Tx, account: AccountId) -> Result<u64> {
    let gone = row::Entity::delete_many().filter(row::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(gone.rows_affected)
}

/// Deletes expired sessions. Returns their number, without derived sessions that are deleted with their parents.
pub(in crate::accounts) async fn purge_sessions(tx: &Tx, now: Timestamp) -> Result<u64> {
    let over = Query::select()
        .column(row::Column::Id)
        .from(row::Entity)
        .and_where(row::Column::ExpiresAtMs.lte(now.0))
        .limit(PURGE_BATCH)
        .to_owned();
    let gone = row::Entity::delete_many().filter(row::Column::Id.in_subquery(over)).exec(tx).await?;
    Ok(gone.rows_affected)
}
