//! Receipts for their owner: each query goes along the chain of one account by its numbers, or by an id.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _, Select};

use crate::db::{AccountId, HoldId};
use crate::error::Result;
use crate::quota::entities::receipts::{Column as Of, Entity, Model as Receipt};

/// The receipts of `account` that are in its chain. The condition stands in the statement as in the index
/// `receipts_in_order`, which no database would use for a bound parameter.
pub(super) fn chain(account: AccountId) -> Select<Entity> {
    Entity::find().filter(Of::AccountId.eq(account)).filter(Expr::cust("seq > 0"))
}

/// At most `most` receipts of `account` before number `before`, the newest first.
pub async fn receipts_before(
    db: &impl ConnectionTrait,
    account: AccountId,
    before: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    Ok(chain(account).filter(Of::Seq.lt(before)).order_by_desc(Of::Seq).limit(most).all(db).await?)
}

/// The receipt, if it is one of `account`.
pub async fn receipt(db: &impl ConnectionTrait, account: AccountId, id: HoldId) -> Result<Option<Receipt>> {
    Ok(Entity::find_by_id(id).filter(Of::AccountId.eq(account)).one(db).await?)
}

/// The first and the last number that a receipt of `period` has; 0 is of one that is not in the chain.
pub async fn numbers_of_month(
    db: &impl ConnectionTrait,
    account: AccountId,
    period: &str,
) -> Result<Option<(i64, i64)>> {
    #[derive(FromQueryResult)]
    struct Row {
        first: Option<i64>,
        last: Option<i64>,
    }
    // Not by `chain`, which would be gone along from its beginning: this finds the month by `receipts_by_account`.
    let row = Entity::find()
        .select_only()
        .column_as(Of::Seq.min(), "first")
        .column_as(Of::Seq.max(), "last")
        .filter(Of::AccountId.eq(account))
        .filter(Of::Period.eq(period))
        .into_model::<Row>()
        .one(db)
        .await?;
    Ok(row.and_then(|row| row.first.zip(row.last)))
}

/// Receipts of `period` among at most `most` after number `after` and up to number `last`, and the number of the last one
/// that was looked at, if there was any.
pub async fn receipts_of_month(
    db: &impl ConnectionTrait,
    (account, period): (AccountId, &str),
    (after, last): (i64, i64),
    most: u64,
) -> Result<(Vec<Receipt>, Option<i64>)> {
    let mut receipts = chain(account)
        .filter(Of::Seq.gt(after))
        .filter(Of::Seq.lte(last))
        .order_by_asc(Of::Seq)
        .limit(most)
        .all(db)
        .await?;
    let reached = receipts.last().map(|receipt| receipt.seq);
    // Calls that began in a month and ended in the next lie between those of the next.
    receipts.retain(|receipt| receipt.period == period);
    Ok((receipts, reached))
}
