//! The SQL of this module: the table `domains`.

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait, PaginatorTrait as _, QueryFilter as _, QueryOrder as _};

use super::domain::{Domain, DomainId, DomainState};
use crate::db::{self, Db, InstanceId, Tx};

/// The domains of all instances, sorted by name.
pub(super) async fn all(db: &Db) -> Result<Vec<Domain>> {
    db::rows::parsed(db.read(), row::Entity::find().order_by_asc(row::Column::Name), |row| Ok(row.into())).await
}

pub(super) async fn count(tx: &Tx, instance: InstanceId) -> Result<u64> {
    Ok(row::Entity::find().filter(row::Column::InstanceId.eq(instance)).count(tx).await?)
}

pub(super) async fn insert(tx: &Tx, domain: &Domain) -> Result<()> {
    let row = row::ActiveModel {
        id: Set(domain.id.0),
        instance_id: Set(domain.instance),
        name: Set(domain.name.clone()),
        proof: Set(domain.proof.clone()),
        claimed_at_ms: Set(domain.claimed_at.0),
        proven_at_ms: Set(None),
        checked_at_ms: Set(None),
        missed: Set(0),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes a domain; `false` when the instance has no such domain.
pub(super) async fn delete(tx: &Tx, instance: InstanceId, id: DomainId) -> Result<bool> {
    let gone = row::Entity::delete_many()
        .filter(row::Column::Id.eq(id.0))
        .filter(row::Column::InstanceId.eq(instance))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected == 1)
}

/// Deletes every domain of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    row::Entity::delete_many().filter(row::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

/// Stores the state of a domain. `Conflict` when another account has proven the same name. Does nothing without such a
/// row.
pub(super) async fn set_state(tx: &Tx, id: DomainId, state: DomainState, checked_at: Option<Timestamp>) -> Result<()> {
    let (proven_at, missed) = match state {
        DomainState::Claimed => (None, 0),
        DomainState::Proven { at, missed } => (Some(at.0), missed),
    };
    let written = row::Entity::update_many()
        .col_expr(row::Column::ProvenAtMs, Expr::value(proven_at))
        .col_expr(row::Column::Missed, Expr::value(missed))
        .col_expr(row::Column::CheckedAtMs, Expr::value(checked_at.map(|at| at.0)))
        .filter(row::Column::Id.eq(id.0))
        .exec(tx)
        .await;
    match written {
        Ok(_) => Ok(()),
        // Compare-and-set by the database: a partial unique index on the proven rows decides between two accounts that
        // prove a name at the same moment.
        Err(error) if db::is_duplicate(&error) => {
            Err(Error::Conflict("Another account just proved this domain.".into()))
        }
        Err(error) => Err(error.into()),
    }
}

impl From<row::Model> for Domain {
    fn from(row: row::Model) -> Self {
        let state = match row.proven_at_ms {
            Some(at) => DomainState::Proven { at: Timestamp(at), missed: row.missed },
            None => DomainState::Claimed,
        };
        Self {
            id: DomainId(row.id),
            instance: row.instance_id,
            name: row.name,
            proof: row.proof,
            claimed_at: Timestamp(row.claimed_at_ms),
            checked_at: row.checked_at_ms.map(Timestamp),
            asked_at: None,
            state,
        }
    }
}

mod row {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "domains")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub instance_id: InstanceId,
        pub name: String,
        pub proof: String,
        pub claimed_at_ms: i64,
        pub proven_at_ms: Option<i64>,
        pub checked_at_ms: Option<i64>,
        pub missed: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
