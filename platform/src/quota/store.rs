//! All SQL of the quota room. Money moves between three places, and every function here keeps them equal:
//! the sum of an account's holds is its allowance row's `held`, the sum of its receipts the row's `spent`.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, OnConflict};
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _, Set};

use super::entities::{allowances, holds, prices, receipts};
use super::prices::PriceBook;
use super::rules::{Charge, Outcome};
use super::{ModelSpend, Receipt};
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::{Error, Result};

/// Writes every row of `book` unless its version is there already.
pub async fn import_prices(tx: &Tx, book: &PriceBook) -> Result<()> {
    let there = prices::Entity::find().filter(prices::Column::Version.eq(&book.version)).count(&**tx).await?;
    if there > 0 {
        return Ok(());
    }
    let rows = book.rows().map(|(provider, model, price)| {
        Ok(prices::ActiveModel {
            version: Set(book.version.clone()),
            provider: Set(provider.as_str().into()),
            model: Set(model.into()),
            price: Set(serde_json::to_string(price).map_err(anyhow::Error::new)?),
        })
    });
    prices::Entity::insert_many(rows.collect::<Result<Vec<_>>>()?).exec_without_returning(&**tx).await?;
    Ok(())
}

/// Gives every allowance of `period` and later the operator's present setting.
pub async fn set_allowances(tx: &Tx, period: &str, allowance_nanodollars: i64) -> Result<()> {
    allowances::Entity::update_many()
        .col_expr(allowances::Column::AllowanceNanodollars, Expr::value(allowance_nanodollars))
        .filter(allowances::Column::Period.gte(period))
        .exec(&**tx)
        .await?;
    Ok(())
}

/// Makes the account's row for `period` unless it is there.
pub async fn ensure_allowance(tx: &Tx, account: AccountId, period: &str, allowance_nanodollars: i64) -> Result<()> {
    let row = allowances::ActiveModel {
        account_id: Set(account),
        period: Set(period.into()),
        allowance_nanodollars: Set(allowance_nanodollars),
        spent_nanodollars: Set(0),
        held_nanodollars: Set(0),
    };
    let key = OnConflict::columns([allowances::Column::AccountId, allowances::Column::Period]).do_nothing().to_owned();
    allowances::Entity::insert(row).on_conflict(key).exec_without_returning(&**tx).await?;
    Ok(())
}

/// Moves `amount` from what is left to what is held; `false`, and nothing changed, when it does not fit.
///
/// One conditional update is the whole admission. PostgreSQL locks the row until the commit and looks at the
/// condition again after waiting for it; SQLite has one writer. So no two calls can take the same dollar.
pub async fn take(tx: &Tx, account: AccountId, period: &str, amount: i64) -> Result<bool> {
    use allowances::Column::{AccountId as Account, AllowanceNanodollars, HeldNanodollars, Period, SpentNanodollars};
    let left = Expr::col(AllowanceNanodollars).sub(Expr::col(SpentNanodollars)).sub(Expr::col(HeldNanodollars));
    let done = allowances::Entity::update_many()
        .col_expr(HeldNanodollars, Expr::col(HeldNanodollars).add(amount))
        .filter(Account.eq(account))
        .filter(Period.eq(period))
        .filter(left.gte(amount))
        .exec(&**tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// How many calls of `account` are in flight.
pub async fn calls_in_flight(db: &impl ConnectionTrait, account: AccountId) -> Result<u64> {
    Ok(holds::Entity::find().filter(holds::Column::AccountId.eq(account)).count(db).await?)
}

/// Writes the intent.
pub async fn insert_hold(tx: &Tx, hold: &holds::Model) -> Result<()> {
    holds::Entity::insert(holds::ActiveModel::from(hold.clone()).reset_all()).exec_without_returning(&**tx).await?;
    Ok(())
}

/// Every hold made before `before`, the oldest first.
pub async fn holds_before(tx: &Tx, before: Timestamp) -> Result<Vec<holds::Model>> {
    let old = holds::Entity::find().filter(holds::Column::AtMs.lt(before.0));
    Ok(old.order_by_asc(holds::Column::AtMs).all(&**tx).await?)
}

/// Turns a hold into its receipt and moves the money. `None` when the hold is not there any more: settled before.
pub async fn settle(
    tx: &Tx,
    hold: &holds::Model,
    charge: &Charge,
    outcome: Outcome,
    usage: String,
    now: Timestamp,
) -> Result<Option<Receipt>> {
    use allowances::Column::{AccountId as Account, HeldNanodollars, Period, SpentNanodollars};
    if holds::Entity::delete_by_id(hold.id).exec(&**tx).await?.rows_affected == 0 {
        return Ok(None);
    }
    let moved = allowances::Entity::update_many()
        .col_expr(HeldNanodollars, Expr::col(HeldNanodollars).sub(hold.amount_nanodollars))
        .col_expr(SpentNanodollars, Expr::col(SpentNanodollars).add(charge.amount_nanodollars))
        .filter(Account.eq(hold.account_id))
        .filter(Period.eq(&hold.period))
        .exec(&**tx)
        .await?;
    if moved.rows_affected != 1 {
        return Err(Error::Internal(anyhow::anyhow!("hold {} has no allowance row", hold.id)));
    }
    let tokens = |n: u64| Set(i64::try_from(n).unwrap_or(i64::MAX));
    let row = receipts::ActiveModel {
        id: Set(hold.id),
        account_id: Set(hold.account_id),
        instance_id: Set(hold.instance_id),
        period: Set(hold.period.clone()),
        provider: Set(hold.provider.clone()),
        model: Set(hold.model.clone()),
        price_version: Set(hold.price_version.clone()),
        held_nanodollars: Set(hold.amount_nanodollars),
        amount_nanodollars: Set(charge.amount_nanodollars),
        input_tokens: tokens(charge.usage.input_tokens),
        cache_write_tokens: tokens(charge.usage.cache_write_tokens),
        cache_write_long_tokens: tokens(charge.usage.cache_write_long_tokens),
        cache_read_tokens: tokens(charge.usage.cache_read_tokens),
        output_tokens: tokens(charge.usage.output_tokens),
        basis: Set(charge.basis.as_str().into()),
        outcome: Set(outcome.as_str().into()),
        usage: Set(usage),
        held_at_ms: Set(hold.at_ms),
        settled_at_ms: Set(now.0),
    };
    receipts::Entity::insert(row).exec_without_returning(&**tx).await?;
    Ok(Some(Receipt {
        id: hold.id,
        instance: hold.instance_id,
        provider: hold.provider.clone(),
        model: hold.model.clone(),
        held_nanodollars: hold.amount_nanodollars,
        amount_nanodollars: charge.amount_nanodollars,
        basis: charge.basis,
        outcome,
    }))
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

/// What `account` spent in `period` on each model, dearest first.
pub async fn spend_by_model(db: &impl ConnectionTrait, account: AccountId, period: &str) -> Result<Vec<ModelSpend>> {
    use receipts::Column::{
        AccountId as Account, AmountNanodollars, CacheReadTokens, CacheWriteLongTokens, CacheWriteTokens, Id,
        InputTokens, Model, OutputTokens, Period, Provider,
    };
    let input = Expr::col(InputTokens)
        .add(Expr::col(CacheWriteTokens))
        .add(Expr::col(CacheWriteLongTokens))
        .add(Expr::col(CacheReadTokens));
    let rows: Vec<ModelRow> = receipts::Entity::find()
        .select_only()
        .column(Provider)
        .column(Model)
        .column_as(Id.count(), "calls")
        .column_as(whole(input), "input_tokens")
        .column_as(whole(Expr::col(OutputTokens)), "output_tokens")
        .column_as(whole(Expr::col(AmountNanodollars)), "amount_nanodollars")
        .filter(Account.eq(account))
        .filter(Period.eq(period))
        .group_by(Provider)
        .group_by(Model)
        .into_model()
        .all(db)
        .await?;
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

#[derive(FromQueryResult)]
struct Sum {
    account_id: AccountId,
    period: String,
    total: Option<i64>,
}

/// For each allowance row that disagrees with its holds or receipts, a sentence. Call where all statements
/// see the same moment.
pub async fn disagreements(db: &impl ConnectionTrait) -> Result<Vec<String>> {
    let held: Vec<Sum> = holds::Entity::find()
        .select_only()
        .columns([holds::Column::AccountId, holds::Column::Period])
        .column_as(whole(Expr::col(holds::Column::AmountNanodollars)), "total")
        .group_by(holds::Column::AccountId)
        .group_by(holds::Column::Period)
        .into_model()
        .all(db)
        .await?;
    let spent: Vec<Sum> = receipts::Entity::find()
        .select_only()
        .columns([receipts::Column::AccountId, receipts::Column::Period])
        .column_as(whole(Expr::col(receipts::Column::AmountNanodollars)), "total")
        .group_by(receipts::Column::AccountId)
        .group_by(receipts::Column::Period)
        .into_model()
        .all(db)
        .await?;
    let total = |sums: &[Sum], row: &allowances::Model| {
        sums.iter()
            .find(|sum| sum.account_id == row.account_id && sum.period == row.period)
            .and_then(|sum| sum.total)
            .unwrap_or(0)
    };
    let rows = allowances::Entity::find().all(db).await?;
    let mut wrong = Vec::new();
    for row in rows {
        for (name, in_row, summed) in
            [("held", row.held_nanodollars, total(&held, &row)), ("spent", row.spent_nanodollars, total(&spent, &row))]
        {
            if in_row != summed {
                wrong.push(format!(
                    "account {} in {}: {name} is {in_row}, its rows sum to {summed}",
                    row.account_id, row.period
                ));
            }
        }
    }
    Ok(wrong)
}
