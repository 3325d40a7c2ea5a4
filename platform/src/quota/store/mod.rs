//! All SQL of the quota room. Money is in three places, and every function here keeps them equal: an account's
//! receipts, its sums by day, and its sum by month.

mod agreement;
mod alerts;
mod corrections;
mod everybody;
mod receipts_read;
mod sums;
mod tables;

use std::collections::{BTreeMap, HashSet};

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, OnConflict, Query};
use sea_orm::{FromQueryResult, Iterable as _, QueryOrder as _, QuerySelect as _, Set};

use crate::clock::Timestamp;
use crate::config::Limits;
use crate::db::{AccountId, HoldId, Tx};
use crate::error::{Error, Result};
use crate::quota::admission::books::{Account, Credit, Past};
use crate::quota::calendar::Days;
use crate::quota::entities::receipts::Model as Receipt;
use crate::quota::entities::{allowances, books, credits, limits, receipts, spend_days};
use crate::quota::ledger::chain::Head;
use crate::quota::{ModelSpend, calendar};

pub use agreement::disagreements;
pub use alerts::{alerts_of, raise, spent_in_days, spent_in_months, told, untold};
pub use corrections::{any_receipt, corrections_of, receipts_to_rate};
pub use everybody::{Order, accounts_of_month, booked, month_of_all, spend_of_all_by_day, spent_on_day};
pub use receipts_read::{numbers_of_month, receipt, receipts_before, receipts_of_month};
pub use sums::{By, MonthSum, Sum, months, spend_by};
pub use tables::{choose_no_prices, choose_prices, chosen_prices, import_prices, price, price_book, price_versions};

/// Receipts in one statement: enough that its own share is small. PostgreSQL takes 65,535 values in one.
const A_STATEMENT: usize = 100;
/// The one row of `books`.
const BOOKS: i64 = 1;

/// Opens the books anew: whoever opened them before writes no more. The new epoch.
pub async fn open_epoch(tx: &Tx) -> Result<i64> {
    books::Entity::update_many()
        .col_expr(books::Column::Epoch, Expr::col(books::Column::Epoch).add(1))
        .filter(books::Column::Id.eq(BOOKS))
        .exec(tx)
        .await?;
    epoch(tx).await
}

/// Which opening of the books is the latest. Nobody opens them anew until the transaction that asked is over.
pub async fn epoch(db: &impl ConnectionTrait) -> Result<i64> {
    let row = books::Entity::find_by_id(BOOKS).lock_shared().one(db).await?;
    row.map(|row| row.epoch).ok_or_else(|| Error::Internal(anyhow::anyhow!("the books have no epoch")))
}

/// The account as the ledger has it, with nothing in flight. `usual`: what limits it where it has none of its own.
pub async fn account(db: &impl ConnectionTrait, account: AccountId, usual: Limits, now: Timestamp) -> Result<Account> {
    let limits = own_limits(db, account).await?.map_or(usual, |own| own.over(usual));
    let period = calendar::period(now);
    let months = allowances::Entity::find().filter(allowances::Column::AccountId.eq(account)).all(db).await?;
    let this_month = months.iter().find(|row| row.period == period).map_or(0, |row| row.spent_nanodollars);
    let today = spent_on(db, account, &calendar::day(now)).await?;
    let credit = Credit { granted: credit_granted(db, account).await?, used: 0 };
    let mut books = Account::new(limits, credit, this_month, today, now);
    for allowances::Model { period: name, allowance_nanodollars, spent_nanodollars, .. } in
        months.into_iter().filter(|row| row.period != period)
    {
        books.remember(Past { name, allowance_nanodollars, spent_nanodollars });
    }
    Ok(books)
}

impl limits::Model {
    /// These limits where they say something, `usual` where they do not.
    #[must_use]
    pub fn over(&self, usual: Limits) -> Limits {
        let small = |own: Option<i64>, usual| own.map_or(usual, |own| Some(u32::try_from(own).unwrap_or(u32::MAX)));
        Limits {
            month_nanodollars: self.month_nanodollars.unwrap_or(usual.month_nanodollars),
            day_nanodollars: self.day_nanodollars.or(usual.day_nanodollars),
            requests_a_minute: small(self.requests_a_minute, usual.requests_a_minute),
            tokens_a_minute: small(self.tokens_a_minute, usual.tokens_a_minute),
            calls_at_once: small(self.calls_at_once, Some(usual.calls_at_once)).unwrap_or(usual.calls_at_once),
        }
    }
}

/// The account's own limits, if it has any.
pub async fn own_limits(db: &impl ConnectionTrait, account: AccountId) -> Result<Option<limits::Model>> {
    Ok(limits::Entity::find_by_id(account).one(db).await?)
}

/// Replaces the account's own limits.
pub async fn set_limits(tx: &Tx, own: limits::Model) -> Result<()> {
    limits::Entity::delete_by_id(own.account_id).exec(tx).await?;
    limits::Entity::insert(limits::ActiveModel::from(own).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes down credit that was given, or with a minus taken back.
pub async fn add_credit(tx: &Tx, credit: credits::Model) -> Result<()> {
    credits::Entity::insert(credits::ActiveModel::from(credit).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Total {
    total: Option<i64>,
}

/// All credit that the account was ever given.
pub async fn credit_granted(db: &impl ConnectionTrait, account: AccountId) -> Result<i64> {
    let sum = credits::Entity::find()
        .select_only()
        .column_as(whole(Expr::col(credits::Column::AmountNanodollars)), "total")
        .filter(credits::Column::AccountId.eq(account));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or(0))
}

async fn spent_on(db: &impl ConnectionTrait, account: AccountId, day: &str) -> Result<i64> {
    let sum = spend_days::Entity::find()
        .select_only()
        .column_as(whole(Expr::col(spend_days::Column::AmountNanodollars)), "total")
        .filter(spend_days::Column::AccountId.eq(account))
        .filter(spend_days::Column::Day.eq(day));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or(0))
}

/// Which of `ids` have their receipt.
pub async fn receipts_there(db: &impl ConnectionTrait, ids: &[HoldId]) -> Result<HashSet<HoldId>> {
    #[derive(FromQueryResult)]
    struct Row {
        id: HoldId,
    }
    use receipts::Column as Of;
    let mut there = HashSet::new();
    for ids in ids.chunks(A_STATEMENT) {
        let found = receipts::Entity::find().select_only().column(Of::Id).filter(Of::Id.is_in(ids.iter().copied()));
        there.extend(found.into_model::<Row>().all(db).await?.into_iter().map(|row| row.id));
    }
    Ok(there)
}

/// Where the account's chain ends.
pub async fn head(db: &impl ConnectionTrait, account: AccountId) -> Result<Head> {
    let newest = receipts::Entity::find()
        .filter(receipts::Column::AccountId.eq(account))
        .filter(receipts::Column::Seq.gt(0))
        .order_by_desc(receipts::Column::Seq)
        .one(db)
        .await?;
    Ok(newest.map_or_else(Head::beginning, |receipt| Head { seq: receipt.seq, digest: receipt.hash }))
}

/// Adds receipts; none may be there yet. In statements of the same length, which the database prepares once.
pub async fn add_receipts(tx: &Tx, rows: &[Receipt]) -> Result<()> {
    for rows in rows.chunks(A_STATEMENT) {
        let mut insert = Query::insert();
        insert.into_table(receipts::Entity).columns(receipts::Column::iter());
        for row in rows {
            let values = receipts::Column::iter().map(|column| row.get(column).into());
            insert.values(values).map_err(|error| Error::Internal(error.into()))?;
        }
        tx.execute(&insert).await?;
    }
    Ok(())
}

/// Deletes the beginning of the account's chain, up to the first receipt of `day` or later, and never its end; how many.
pub async fn forget_receipts(tx: &Tx, account: AccountId, day: &str) -> Result<u64> {
    let first = receipts::Entity::find()
        .filter(receipts::Column::AccountId.eq(account))
        .filter(receipts::Column::Seq.gt(0))
        .filter(receipts::Column::Day.gte(day))
        .order_by_asc(receipts::Column::Seq)
        .one(tx)
        .await?;
    let keep = match first {
        Some(first) => first.seq,
        None => head(tx, account).await?.seq,
    };
    let old = receipts::Entity::delete_many()
        .filter(receipts::Column::AccountId.eq(account))
        .filter(receipts::Column::Day.lt(day))
        .filter(receipts::Column::Seq.lt(keep));
    Ok(old.exec(tx).await?.rows_affected)
}

/// What a batch of receipts adds to the sums.
#[derive(Default)]
pub struct Spent {
    months: BTreeMap<(AccountId, String), Month>,
    days: BTreeMap<(AccountId, String, String, String, String), Day>,
}

#[derive(Default)]
struct Month {
    allowance_nanodollars: i64,
    spent_nanodollars: i64,
}

#[derive(Default)]
struct Day {
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    amount_nanodollars: i64,
}

impl Spent {
    /// Adds one receipt.
    pub fn add(&mut self, receipt: &Receipt, allowance_nanodollars: i64) {
        let month = self.months.entry((receipt.account_id, receipt.period.clone())).or_default();
        month.allowance_nanodollars = allowance_nanodollars;
        month.spent_nanodollars += receipt.amount_nanodollars;
        let (provider, model, agent) = (&receipt.provider, &receipt.model, &receipt.agent);
        let key = (receipt.account_id, receipt.day.clone(), provider.clone(), model.clone(), agent.clone());
        let day = self.days.entry(key).or_default();
        // A correction is no call.
        day.calls += i64::from(receipt.corrects.is_none());
        day.input_tokens += receipt.input_tokens
            + receipt.cache_write_tokens
            + receipt.cache_write_long_tokens
            + receipt.cache_read_tokens;
        day.output_tokens += receipt.output_tokens;
        day.amount_nanodollars += receipt.amount_nanodollars;
    }
}

/// Adds to the sums by month and by day.
pub async fn add_spent(tx: &Tx, spent: Spent) -> Result<()> {
    use spend_days::Column as By;
    let months = spent.months.into_iter().map(|((account_id, period), month)| allowances::ActiveModel {
        account_id: Set(account_id),
        period: Set(period),
        allowance_nanodollars: Set(month.allowance_nanodollars),
        spent_nanodollars: Set(month.spent_nanodollars),
    });
    let mut key = OnConflict::columns([allowances::Column::AccountId, allowances::Column::Period]);
    key.update_column(allowances::Column::AllowanceNanodollars);
    key.value(allowances::Column::SpentNanodollars, added(allowances::Entity, allowances::Column::SpentNanodollars));
    add_rows(tx, months.collect(), &key).await?;
    let days =
        spent.days.into_iter().map(|((account_id, day, provider, model, agent), sums)| spend_days::ActiveModel {
            account_id: Set(account_id),
            day: Set(day),
            provider: Set(provider),
            model: Set(model),
            agent: Set(agent),
            calls: Set(sums.calls),
            input_tokens: Set(sums.input_tokens),
            output_tokens: Set(sums.output_tokens),
            amount_nanodollars: Set(sums.amount_nanodollars),
        });
    let mut key = OnConflict::columns([By::AccountId, By::Day, By::Provider, By::Model, By::Agent]);
    for sum in [By::Calls, By::InputTokens, By::OutputTokens, By::AmountNanodollars] {
        key.value(sum, added(spend_days::Entity, sum));
    }
    add_rows(tx, days.collect(), &key).await
}

async fn add_rows<A: ActiveModelTrait + Send>(tx: &Tx, mut rows: Vec<A>, meets: &OnConflict) -> Result<()> {
    while !rows.is_empty() {
        let some = rows.drain(..rows.len().min(A_STATEMENT));
        A::Entity::insert_many(some).on_conflict(meets.clone()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// What a row has in `column` and what an insert that met it brings, together.
fn added(table: impl EntityTrait, column: impl ColumnTrait) -> Expr {
    Expr::col((table, column)).add(Expr::col((Alias::new("excluded"), column)))
}

/// The account's row for `period`, if it made a call in it.
pub async fn allowance(
    db: &impl ConnectionTrait,
    account: AccountId,
    period: &str,
) -> Result<Option<allowances::Model>> {
    Ok(allowances::Entity::find_by_id((account, period.to_owned())).one(db).await?)
}

#[derive(FromQueryResult)]
struct ModelRow {
    provider: String,
    model: String,
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    amount_nanodollars: i64,
}

/// Whose spending is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    One(AccountId),
    Everybody,
}

/// What was spent in `days` on each model, dearest first.
pub async fn spend_by_model(db: &impl ConnectionTrait, whose: Whose, days: &Days) -> Result<Vec<ModelSpend>> {
    use spend_days::Column as By;
    let mut sums = spend_days::Entity::find()
        .select_only()
        .column(By::Provider)
        .column(By::Model)
        .column_as(whole(Expr::col(By::Calls)), "calls")
        .column_as(whole(Expr::col(By::InputTokens)), "input_tokens")
        .column_as(whole(Expr::col(By::OutputTokens)), "output_tokens")
        .column_as(whole(Expr::col(By::AmountNanodollars)), "amount_nanodollars")
        .filter(By::Day.between(&*days.first, &*days.last))
        .group_by(By::Provider)
        .group_by(By::Model);
    if let Whose::One(account) = whose {
        sums = sums.filter(By::AccountId.eq(account));
    }
    let rows: Vec<ModelRow> = sums.into_model().all(db).await?;
    let mut spend: Vec<ModelSpend> = rows
        .into_iter()
        .map(|row| ModelSpend {
            provider: row.provider,
            model: row.model,
            calls: row.calls,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            amount_nanodollars: row.amount_nanodollars,
        })
        .collect();
    spend.sort_by(|a, b| b.amount_nanodollars.cmp(&a.amount_nanodollars).then_with(|| a.model.cmp(&b.model)));
    Ok(spend)
}

/// A sum as bigint: PostgreSQL sums bigints to numeric, which is no i64.
fn whole(expr: Expr) -> Expr {
    expr.sum().cast_as(Alias::new("bigint"))
}

/// Every account that has a receipt in the chain.
pub async fn accounts_with_receipts(db: &impl ConnectionTrait) -> Result<Vec<AccountId>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
    }
    let rows = receipts::Entity::find()
        .select_only()
        .column(receipts::Column::AccountId)
        .filter(receipts::Column::Seq.gt(0))
        .distinct()
        .into_model::<Row>();
    Ok(rows.all(db).await?.into_iter().map(|row| row.account_id).collect())
}

/// At most `most` receipts of `account` after number `seq`, in the order of the chain.
pub async fn receipts_after(
    db: &impl ConnectionTrait,
    account: AccountId,
    seq: i64,
    most: u64,
) -> Result<Vec<Receipt>> {
    Ok(receipts::Entity::find()
        .filter(receipts::Column::AccountId.eq(account))
        .filter(receipts::Column::Seq.gt(seq))
        .order_by_asc(receipts::Column::Seq)
        .limit(most)
        .all(db)
        .await?)
}

/// The latest receipts of `account`, the newest first.
pub async fn latest_receipts(db: &impl ConnectionTrait, account: AccountId, most: u64) -> Result<Vec<Receipt>> {
    Ok(receipts::Entity::find()
        .filter(receipts::Column::AccountId.eq(account))
        .order_by_desc(receipts::Column::Seq)
        .order_by_desc(receipts::Column::SettledAtMs)
        .limit(most)
        .all(db)
        .await?)
}
