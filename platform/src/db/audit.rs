//! The audit log: who changed what, and to which account. Every module appends to it in the transaction of the change.

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

/// One line of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditEntry<'a> {
    /// A handle, `operator` for a command line, `berth` for the platform itself.
    pub actor: &'a str,
    /// A verb in `snake_case`, such as `log_in`.
    pub action: &'a str,
    /// A handle, or the id of the thing that was changed.
    pub subject: &'a str,
    /// Free text, may be empty. Blanked when the actor's or the subject's account is deleted.
    pub detail: &'a str,
}

/// Appends `entry` to the audit log in `tx`, the transaction that makes the change: neither is stored without the other.
pub async fn record(tx: &Tx, clock: &Clock, entry: &AuditEntry<'_>) -> Result<()> {
    let row = row::ActiveModel {
        id: Set(clock.uuid()),
        at_ms: Set(clock.now().0),
        actor: Set(entry.actor.to_owned()),
        action: Set(entry.action.to_owned()),
        subject: Set(entry.subject.to_owned()),
        detail: Set(entry.detail.to_owned()),
    };
    row::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Blanks the details of every entry that names `handle`: they hold addresses, devices and names of keys. The entries
/// themselves stay.
pub async fn blank_audit_of(tx: &Tx, handle: &str) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::Detail, Expr::value(""))
        .filter(row::Column::Actor.eq(handle).or(row::Column::Subject.eq(handle)))
        .exec(tx)
        .await?;
    Ok(())
}
