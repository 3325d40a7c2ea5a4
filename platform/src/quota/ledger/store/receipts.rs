//! Receipts: added at the end of their chain, and read along it by their numbers, or by an id.

use std::collections::HashSet;

use berth_ground::error::{Error, Result};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _, Select};

use super::super::chain::ChainHead;
use super::super::entities::receipts::{Column as Of, Entity, Model};
use super::super::receipt::Receipt;
use super::{ROWS_PER_STATEMENT, rows};
use crate::db::{AccountId, HoldId, Tx};
use crate::quota::calendar::{Day, DayRange, Month};

/// Which of `ids` have their receipt.
pub async fn existing_receipts(db: &impl ConnectionTrait, ids: &[HoldId]) -> Result<HashSet<HoldId>> {
    #[derive(FromQueryResult)]
    struct Row {
        id: HoldId,
    }
    let mut there = HashSet::new();
    for ids in ids.chunks(ROWS_PER_STATEMENT) {
        let found = Entity::find().select_only().column(Of::Id).filter(Of::Id.is_in(ids.iter().copied()));
        there.extend(found.into_model::<Row>().all(db).await?.into_iter().map(|row| row.id));
    }
    Ok(there)
}

/// Where the account's chain ends.
pub async fn head(db: &impl ConnectionTrait, account: AccountId) -> Result<ChainHead> {
    let newest =
        Entity::find().filter(Of::AccountId.eq(account)).filter(Of::Seq.gt(0)).order_by_desc(Of::Seq).one(db).await?;
    Ok(newest.map_or_else(ChainHead::beginning, |receipt| ChainHead { seq: receipt.seq, digest: receipt.hash }))
}

/// Adds receipts; none may be there yet. In statements of the same length, which the database prepares once.
pub async fn add_receipts(tx: &Tx, receipts: &[Receipt]) -> Result<()> {
    for receipts in receipts.chunks(ROWS_PER_STATEMENT) {
        let mut insert = Query::insert();
        insert.into_table(Entity).columns(rows::COLUMNS);
        for receipt in receipts {
            let values = rows::values_of(receipt).map(Into::into);
            insert.values(values).map_err(|error| Error::Internal(error.into()))?;
        }
        tx.execute(&insert).await?;
    }
    Ok(())
}

/// Deletes the beginning of the account's chain, up to the first receipt of `day` or later, and never its end; how
/// many.
pub async fn forget_receipts(tx: &Tx, account: AccountId, day: Day) -> Result<u64> {
    let day = day.to_string();
    let first = Entity::find()
        .filter(Of::AccountId.eq(account))
        .filter(Of::Seq.gt(0))
        .filter(Of::Day.gte(&*day))
        .order_by_asc(Of::Seq)
        .one(tx)
        .await?;
    let keep = match first {
        Some(first) => first.seq,
        None => head(tx, account).await?.seq,
    };
    let old =
        Entity::delete_many().filter(Of::AccountId.eq(account)).filter(Of::Day.lt(&*day)).filter(Of::Seq.lt(keep));
    Ok(old.exec(tx).await?.rows_affected)
}

/// Every account that has a receipt in the chain.
pub async fn accounts_with_receipts(db: &impl ConnectionTrait) -> Result<Vec<AccountId>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
    }
    let rows = Entity::find().select_only().column(Of::AccountId).filter(Of::Seq.gt(0)).distinct().into_model::<Row>();
    Ok(rows.all(db).await?.into_iter().map(|row| row.account_id).collect())
}

/// At most `most` receipts of `account` after number `seq`, in the order of the chain.
pub async fn receipts_after(
    db: &impl ConnectionTrait,
    account: AccountId,
    seq: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    let rows = Entity::find()
        .filter(Of::AccountId.eq(account))
        .filter(Of::Seq.gt(seq))
        .order_by_asc(Of::Seq)
        .limit(most)
        .all(db)
        .await?;
    plain(rows)
}

/// The latest receipts of `account`, the newest first.
pub async fn latest_receipts(db: &impl ConnectionTrait, account: AccountId, most: u64) -> Result<Vec<Receipt>> {
    let rows = Entity::find()
        .filter(Of::AccountId.eq(account))
        .order_by_desc(Of::Seq)
        .order_by_desc(Of::SettledAtMs)
        .limit(most)
        .all(db)
        .await?;
    plain(rows)
}

/// The receipts of `account` that are in its chain. The condition stands in the statement as in the index
/// `receipts_in_order`, which no database would use for a bound parameter.
fn chain(account: AccountId) -> Select<Entity> {
    Entity::find().filter(Of::AccountId.eq(account)).filter(Expr::cust("seq > 0"))
}

/// At most `most` receipts of `account` before number `before`, the newest first.
pub async fn receipts_before(
    db: &impl ConnectionTrait,
    account: AccountId,
    before: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    let rows = chain(account).filter(Of::Seq.lt(before)).order_by_desc(Of::Seq).limit(most).all(db).await?;
    plain(rows)
}

/// The receipt, if it is one of `account`.
pub async fn receipt(db: &impl ConnectionTrait, account: AccountId, id: HoldId) -> Result<Option<Receipt>> {
    Entity::find_by_id(id).filter(Of::AccountId.eq(account)).one(db).await?.map(Receipt::try_from).transpose()
}

/// Numbers in a chain: after the one, and up to the other with it.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptRange {
    pub after: i64,
    pub last: i64,
}

/// The range of numbers that receipts of `month` have; 0 is of one that is not in the chain.
pub async fn numbers_of_month(
    db: &impl ConnectionTrait,
    account: AccountId,
    month: Month,
) -> Result<Option<ReceiptRange>> {
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
        .filter(Of::Period.eq(month.to_string()))
        .into_model::<Row>()
        .one(db)
        .await?;
    let range = |(first, last): (i64, i64)| ReceiptRange { after: first - 1, last };
    Ok(row.and_then(|row| row.first.zip(row.last)).map(range))
}

/// At most `most` receipts of `account` with numbers in `range`, in the order of the chain.
pub async fn receipts_in(
    db: &impl ConnectionTrait,
    account: AccountId,
    range: ReceiptRange,
    most: u64,
) -> Result<Vec<Receipt>> {
    let numbered = chain(account).filter(Of::Seq.gt(range.after)).filter(Of::Seq.lte(range.last));
    let rows = numbered.order_by_asc(Of::Seq).limit(most).all(db).await?;
    plain(rows)
}

/// The receipt, whosever it is.
pub async fn any_receipt(db: &impl ConnectionTrait, id: HoldId) -> Result<Option<Receipt>> {
    Entity::find_by_id(id).one(db).await?.map(Receipt::try_from).transpose()
}

/// What corrects any of `ids`, the oldest first; found by `receipts_corrections`.
pub async fn corrections_of(db: &impl ConnectionTrait, ids: impl Iterator<Item = HoldId>) -> Result<Vec<Receipt>> {
    let rows = Entity::find().filter(Of::Corrects.is_in(ids)).order_by_asc(Of::Seq).all(db).await?;
    plain(rows)
}

/// At most `most` receipts of calls of `account` in `days` after number `after`, in the order of its chain.
pub async fn receipts_to_reprice(
    db: &impl ConnectionTrait,
    account: AccountId,
    days: &DayRange,
    after: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    let rows = chain(account)
        .filter(Of::Corrects.is_null())
        .filter(Of::Seq.gt(after))
        .filter(Of::Day.between(days.start().to_string(), days.end().to_string()))
        .order_by_asc(Of::Seq)
        .limit(most)
        .all(db)
        .await?;
    plain(rows)
}

fn plain(rows: Vec<Model>) -> Result<Vec<Receipt>> {
    rows.into_iter().map(Receipt::try_from).collect()
}
