//! The audit log: actor, action, subject and detail of every change that matters. A module writes its entry in the transaction
//! that makes the change, so neither exists without the other.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;

use super::Tx;
use crate::clock::Clock;
use crate::error::Result;

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub at_ms: i64,
        pub actor: String,
        pub action: String,
        pub subject: String,
        pub detail: String,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Appends an entry: `actor` did `action` to `subject`.
pub async fn record(tx: &Tx, clock: &Clock, actor: &str, action: &str, (subject, detail): (&str, &str)) -> Result<()> {
    let row = row::ActiveModel {
        id: Set(clock.uuid()),
        at_ms: Set(clock.now().0),
        actor: Set(actor.to_owned()),
        action: Set(action.to_owned()),
        subject: Set(subject.to_owned()),
        detail: Set(detail.to_owned()),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Erases the details (addresses, key names) of all entries about `handle`, for an account that is deleted. The entries stay.
pub async fn blank_audit_of(tx: &Tx, handle: &str) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::Detail, Expr::value(""))
        .filter(row::Column::Actor.eq(handle).or(row::Column::Subject.eq(handle)))
        .exec(tx)
        .await?;
    Ok(())
}
