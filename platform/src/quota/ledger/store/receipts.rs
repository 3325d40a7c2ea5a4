//! Receipts: appended to their chain, and read by their number in it, or by id.

use std::collections::HashSet;

use berth_ground::error::{Error, Result};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _, QueryTrait as _, Select};

use super::super::chain::ChainHead;
use super::super::entities::receipts::{Column as Of, Entity};
use super::super::receipt::Receipt;
use super::rows::StoredReceipt;
use super::{ROWS_PER_STATEMENT, rows};
use crate::db::{AccountId, HoldId, Tx};
use crate::quota::calendar::{Day, DayRange, Month};

/// Those of `ids` that have a receipt.
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

/// The end of the account's chain.
pub async fn head(db: &impl ConnectionTrait, account: AccountId) -> Result<ChainHead> {
    // These two columns alone: the chain goes on after a receipt that was altered elsewhere.
    let newest: Option<(i64, String)> = Entity::find()
        .select_only()
        .columns([Of::Seq, Of::Hash])
        .filter(Of::AccountId.eq(account))
        .filter(Of::Seq.gt(0))
        .order_by_desc(Of::Seq)
        .into_tuple()
        .one(db)
        .await?;
    Ok(newest.map_or_else(ChainHead::beginning, |(seq, digest)| ChainHead { seq, digest }))
}

/// Adds receipts; none may be there yet. Statements of equal length are prepared once.
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

/// Deletes the beginning of the account's chain, up to the first receipt of `day` or later, and never its end. Returns
/// the number of deleted receipts.
pub async fn forget_receipts(tx: &Tx, account: AccountId, day: Day) -> Result<u64> {
    let day = day.to_string();
    let first: Option<i64> = Entity::find()
        .select_only()
        .column(Of::Seq)
        .filter(Of::AccountId.eq(account))
        .filter(Of::Seq.gt(0))
        .filter(Of::Day.gte(&*day))
        .order_by_asc(Of::Seq)
        .into_tuple()
        .one(tx)
        .await?;
    let keep = match first {
        Some(first) => first,
        None => head(tx, account).await?.seq,
    };
    let old =
        Entity::delete_many().filter(Of::AccountId.eq(account)).filter(Of::Day.lt(&*day)).filter(Of::Seq.lt(keep));
    Ok(old.exec(tx).await?.rows_affected)
}

/// Every account with a chain.
pub async fn accounts_with_receipts(db: &impl ConnectionTrait) -> Result<Vec<AccountId>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
    }
    let rows = Entity::find().select_only().column(Of::AccountId).filter(Of::Seq.gt(0)).distinct().into_model::<Row>();
    Ok(rows.all(db).await?.into_iter().map(|row| row.account_id).collect())
}

/// At most `most` rows of `account` after number `seq`, in the order of the chain.
pub async fn rows_after(
    db: &impl ConnectionTrait,
    account: AccountId,
    seq: i64,
    most: u64,
) -> Result<Vec<StoredReceipt>> {
    let after = Entity::find().filter(Of::AccountId.eq(account)).filter(Of::Seq.gt(seq));
    all(db, after.order_by_asc(Of::Seq).limit(most)).await
}

/// The latest receipts of `account`, the newest first.
pub async fn latest_receipts(db: &impl ConnectionTrait, account: AccountId, most: u64) -> Result<Vec<Receipt>> {
    let theirs = Entity::find().filter(Of::AccountId.eq(account));
    Ok(readable(all(db, theirs.order_by_desc(Of::Seq).order_by_desc(Of::SettledAtMs).limit(most)).await?))
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
    let mut receipts = Vec::new();
    let mut before = before;
    // Filled up from further pages: a short list is the last one to its reader.
    loop {
        let wanted = most.saturating_sub(receipts.len() as u64);
        let page = chain(account).filter(Of::Seq.lt(before)).order_by_desc(Of::Seq).limit(wanted);
        let rows = all(db, page).await?;
        let last = rows.iter().filter_map(StoredReceipt::seq).min();
        let is_short = (rows.len() as u64) < wanted;
        receipts.extend(readable(rows));
        match last {
            Some(last) if !is_short && (receipts.len() as u64) < most => before = last,
            _ => return Ok(receipts),
        }
    }
}

/// The receipt, if it is one of `account`.
///
/// # Errors
/// `Conflict` when it was altered to something that is no receipt.
pub async fn receipt(db: &impl ConnectionTrait, account: AccountId, id: HoldId) -> Result<Option<Receipt>> {
    one(db, Entity::find_by_id(id).filter(Of::AccountId.eq(account))).await
}

/// Numbers in a chain: `after` is excluded, `last` included.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptRange {
    pub after: i64,
    pub last: i64,
}

/// The range of numbers of the receipts of `month`; receipts from before the chain have number 0.
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
    // Not by `chain`, whose index the database would scan from the beginning: `receipts_by_account` finds the month.
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
) -> Result<ReceiptBatch> {
    let numbered = chain(account).filter(Of::Seq.gt(range.after)).filter(Of::Seq.lte(range.last));
    page(db, numbered.order_by_asc(Of::Seq), most).await
}

/// The receipt of any account.
///
/// # Errors
/// `Conflict` when it was altered to something that is no receipt.
pub async fn any_receipt(db: &impl ConnectionTrait, id: HoldId) -> Result<Option<Receipt>> {
    one(db, Entity::find_by_id(id)).await
}

/// The corrections of `ids`, the oldest first; the index is `receipts_corrections`.
pub async fn corrections_of(db: &impl ConnectionTrait, ids: impl Iterator<Item = HoldId>) -> Result<Vec<Receipt>> {
    Ok(readable(all(db, Entity::find().filter(Of::Corrects.is_in(ids)).order_by_asc(Of::Seq)).await?))
}

/// At most `most` receipts of calls of `account` in `days` after number `after`, in the order of its chain.
pub async fn receipts_to_reprice(
    db: &impl ConnectionTrait,
    account: AccountId,
    days: &DayRange,
    after: i64,
    most: u64,
) -> Result<ReceiptBatch> {
    let calls = chain(account)
        .filter(Of::Corrects.is_null())
        .filter(Of::Seq.gt(after))
        .filter(Of::Day.between(days.start().to_string(), days.end().to_string()))
        .order_by_asc(Of::Seq);
    page(db, calls, most).await
}

/// A part of a chain.
pub struct ReceiptBatch {
    /// Without rows that cannot be read.
    pub receipts: Vec<Receipt>,
    /// The number of the last row, after which the next page begins; `None` when there is no row any more.
    pub last: Option<i64>,
    /// Whether it has as many rows as were asked for, so that there may be a next page.
    pub is_full: bool,
}

async fn page(db: &impl ConnectionTrait, select: Select<Entity>, most: u64) -> Result<ReceiptBatch> {
    let rows = all(db, select.limit(most)).await?;
    let last = rows.iter().filter_map(StoredReceipt::seq).max();
    let is_full = rows.len() as u64 == most;
    Ok(ReceiptBatch { receipts: readable(rows), last, is_full })
}

async fn all(db: &impl ConnectionTrait, select: Select<Entity>) -> Result<Vec<StoredReceipt>> {
    let rows = db.query_all_raw(select.build(db.get_database_backend())).await?;
    Ok(rows.iter().map(StoredReceipt::from).collect())
}

async fn one(db: &impl ConnectionTrait, select: Select<Entity>) -> Result<Option<Receipt>> {
    match all(db, select).await?.pop() {
        None => Ok(None),
        Some(StoredReceipt::Receipt(receipt)) => Ok(Some(*receipt)),
        Some(StoredReceipt::Unreadable(_)) => Err(Error::Conflict(
            "This receipt was altered in the database and cannot be read. Its operator can restore it from a backup."
                .into(),
        )),
    }
}

fn readable(rows: Vec<StoredReceipt>) -> Vec<Receipt> {
    let receipt = |row| match row {
        StoredReceipt::Receipt(receipt) => Some(*receipt),
        StoredReceipt::Unreadable(_) => None,
    };
    rows.into_iter().filter_map(receipt).collect()
}
