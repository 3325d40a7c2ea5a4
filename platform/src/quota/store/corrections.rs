//! Receipts that are corrected, and those that correct them.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::receipts_read::chain;
use crate::db::{AccountId, HoldId};
use crate::error::Result;
use crate::quota::calendar::Days;
use crate::quota::entities::receipts::{Column as Of, Entity, Model as Receipt};

/// The receipt, whosever it is.
pub async fn any_receipt(db: &impl ConnectionTrait, id: HoldId) -> Result<Option<Receipt>> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

/// What corrects any of `ids`, the oldest first; found by `receipts_corrections`.
pub async fn corrections_of(db: &impl ConnectionTrait, ids: impl Iterator<Item = HoldId>) -> Result<Vec<Receipt>> {
    Ok(Entity::find().filter(Of::Corrects.is_in(ids)).order_by_asc(Of::Seq).all(db).await?)
}

/// At most `most` receipts of calls of `account` in `days` after number `after`, in the order of its chain.
pub async fn receipts_to_rate(
    db: &impl ConnectionTrait,
    account: AccountId,
    days: &Days,
    after: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    Ok(chain(account)
        .filter(Of::Corrects.is_null())
        .filter(Of::Seq.gt(after))
        .filter(Of::Day.between(&*days.first, &*days.last))
        .order_by_asc(Of::Seq)
        .limit(most)
        .all(db)
        .await?)
}
