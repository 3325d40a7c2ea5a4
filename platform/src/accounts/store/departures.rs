//! The SQL of the table `departures`: scheduled account deletions, and cancelled ones until their files are unmarked on
//! the host.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::accounts::{parse_state, state_as_str};
use super::unreadable;
use crate::accounts::AccountState;
use crate::db::{AccountId, InstanceId, Tx, rows};

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, InstanceId};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "departures")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        pub instance_id: Option<InstanceId>,
        pub asked_by: String,
        pub state_before: String,
        pub asked_at_ms: i64,
        pub due_at_ms: i64,
        pub buried_at_ms: Option<i64>,
        pub kept_at_ms: Option<i64>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::accounts) enum DeletionRequester {
    Owner,
    Operator,
}

/// A scheduled or just cancelled deletion.
#[derive(Clone, Debug)]
pub(in crate::accounts) struct DeletionRecord {
    pub(in crate::accounts) account: AccountId,
    pub(in crate::accounts) instance: Option<InstanceId>,
    pub(in crate::accounts) requested_by: DeletionRequester,
    pub(in crate::accounts) state_before: AccountState,
    pub(in crate::accounts) requested_at: Timestamp,
    pub(in crate::accounts) due: Timestamp,
    /// When the files were marked on the host, which measures the grace period by its own clock from then on.
    pub(in crate::accounts) buried_at: Option<Timestamp>,
    /// When the deletion was cancelled. The host still has to unmark the files.
    pub(in crate::accounts) cancelled_at: Option<Timestamp>,
}

fn requester_as_str(requested_by: DeletionRequester) -> &'static str {
    match requested_by {
        DeletionRequester::Owner => "owner",
        DeletionRequester::Operator => "operator",
    }
}

impl TryFrom<row::Model> for DeletionRecord {
    type Error = berth_ground::error::Error;

    fn try_from(row: row::Model) -> Result<Self> {
        Ok(Self {
            account: row.account_id,
            instance: row.instance_id,
            requested_by: match row.asked_by.as_str() {
                "owner" => DeletionRequester::Owner,
                "operator" => DeletionRequester::Operator,
                _ => return Err(unreadable("the requester of a departure")),
            },
            state_before: parse_state(&row.state_before),
            requested_at: Timestamp(row.asked_at_ms),
            due: Timestamp(row.due_at_ms),
            buried_at: row.buried_at_ms.map(Timestamp),
            cancelled_at: row.kept_at_ms.map(Timestamp),
        })
    }
}

pub(in crate::accounts) async fn insert_departure(tx: &Tx, departure: &DeletionRecord) -> Result<()> {
    let row = row::ActiveModel {
        account_id: Set(departure.account),
        instance_id: Set(departure.instance),
        asked_by: Set(requester_as_str(departure.requested_by).to_owned()),
        state_before: Set(state_as_str(departure.state_before).to_owned()),
        asked_at_ms: Set(departure.requested_at.0),
        due_at_ms: Set(departure.due.0),
        buried_at_ms: Set(None),
        kept_at_ms: Set(None),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn departure<C: ConnectionTrait>(
    on: &C,
    account: AccountId,
) -> Result<Option<DeletionRecord>> {
    row::Entity::find_by_id(account).one(on).await?.map(DeletionRecord::try_from).transpose()
}

/// The departures that are due first, at most `limit`.
pub(in crate::accounts) async fn departures<C: ConnectionTrait>(on: &C, limit: u64) -> Result<Vec<DeletionRecord>> {
    let first = row::Entity::find().order_by_asc(row::Column::DueAtMs).limit(limit);
    rows::parsed(on, first, DeletionRecord::try_from).await
}

pub(in crate::accounts) async fn note_buried(
    tx: &Tx,
    account: AccountId,
    now: Timestamp,
    due: Timestamp,
) -> Result<()> {
    let set = row::Entity::update_many()
        .col_expr(row::Column::BuriedAtMs, Expr::value(now.0))
        .col_expr(row::Column::DueAtMs, Expr::value(due.0));
    set.filter(row::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn note_cancelled(tx: &Tx, account: AccountId, now: Timestamp) -> Result<()> {
    let set = row::Entity::update_many().col_expr(row::Column::KeptAtMs, Expr::value(now.0));
    set.filter(row::Column::AccountId.eq(account)).exec(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn remove_departure(tx: &Tx, account: AccountId) -> Result<()> {
    row::Entity::delete_by_id(account).exec(tx).await?;
    Ok(())
}
