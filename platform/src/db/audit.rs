//! The audit log: actor, action, subject and detail of every security-relevant change. A module writes its entry in the
//! transaction of the change, so neither exists without the other.

use berth_ground::clock::Clock;
use berth_ground::error::Result;
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;

use super::Tx;

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

/// An entry of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditEntry<'a> {
    /// A handle, `operator`, or `berth` for work without a person behind it.
    pub actor: &'a str,
    /// A verb of ours, such as `share`.
    pub action: &'a str,
    /// The handle of the account that the action concerns, or the version of a price table, or a receipt's id.
    pub subject: &'a str,
    /// Anything else that tells one such action from another; erased with the account.
    pub detail: &'a str,
}

/// Appends an entry, dated now.
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

/// Erases the details (addresses, key names) of all entries about `handle`, when its account is deleted. The entries
/// themselves stay.
pub async fn blank_audit_of(tx: &Tx, handle: &str) -> Result<()> {
    row::Entity::update_many()
        .col_expr(row::Column::Detail, Expr::value(""))
        .filter(row::Column::Actor.eq(handle).or(row::Column::Subject.eq(handle)))
        .exec(tx)
        .await?;
    Ok(())
}
