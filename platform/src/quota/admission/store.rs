//! SQL for limits, credit, and the books of an account as the database has them.

use std::collections::BTreeMap;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, Set};
use uuid::Uuid;

use super::account_limits::AccountLimits;
use super::books::{Books, ClosedMonth, Credit};
use super::entities::{credits, limits};
use crate::config::CallLimits;
use crate::db::{AccountId, Tx};
use crate::quota::calendar::{Day, Month};
use crate::quota::entities::{allowances, parse, spend_days, sum_as_bigint};

/// Credit that was given, or with a minus taken back.
pub struct NewCredit<'a> {
    pub id: Uuid,
    pub account: AccountId,
    pub nanodollars: i64,
    pub note: &'a str,
    pub at: Timestamp,
}

/// The account's books as the database has them, with nothing in flight. `usual`: the limits of accounts that have none
/// of their own.
pub async fn books(db: &impl ConnectionTrait, account: AccountId, usual: CallLimits, now: Timestamp) -> Result<Books> {
    let limits = own_limits(db, account).await?.map_or(usual, |own| own.over(usual));
    let (month, today) = (Month::of(now), Day::of(now));
    let rows = allowances::Entity::find().filter(allowances::Column::AccountId.eq(account)).all(db).await?;
    let by_month = rows.into_iter().map(|row| Ok((parse(&row.period)?, row)));
    let mut by_month = by_month.collect::<Result<BTreeMap<Month, _>>>()?;
    let spent_this_month = by_month.remove(&month).map_or(0, |row| row.spent_nanodollars);
    let spent_today = spent_on(db, account, today).await?;
    let credit = Credit { granted: credit_granted(db, account).await?, used: 0 };
    let mut books = Books::new(limits, credit, spent_this_month, spent_today, now);
    for (month, row) in by_month {
        let allowances::Model { allowance_nanodollars, spent_nanodollars, .. } = row;
        books.remember(ClosedMonth { month, allowance_nanodollars, spent_nanodollars });
    }
    Ok(books)
}

/// The account's allowance for `month`, if it made a call in it.
pub async fn allowance(db: &impl ConnectionTrait, account: AccountId, month: Month) -> Result<Option<i64>> {
    let month = allowances::Entity::find_by_id((account, month.to_string())).one(db).await?;
    Ok(month.map(|month| month.allowance_nanodollars))
}

/// The account's own limits, if it has any.
pub async fn own_limits(db: &impl ConnectionTrait, account: AccountId) -> Result<Option<AccountLimits>> {
    let row = limits::Entity::find_by_id(account).one(db).await?;
    Ok(row.map(|row| AccountLimits {
        account_id: row.account_id,
        month_nanodollars: row.month_nanodollars,
        day_nanodollars: row.day_nanodollars,
        requests_a_minute: row.requests_a_minute,
        tokens_a_minute: row.tokens_a_minute,
        calls_at_once: row.calls_at_once,
    }))
}

/// Replaces the account's own limits.
pub async fn set_limits(tx: &Tx, own: AccountLimits) -> Result<()> {
    limits::Entity::delete_by_id(own.account_id).exec(tx).await?;
    let row = limits::ActiveModel {
        account_id: Set(own.account_id),
        month_nanodollars: Set(own.month_nanodollars),
        day_nanodollars: Set(own.day_nanodollars),
        requests_a_minute: Set(own.requests_a_minute),
        tokens_a_minute: Set(own.tokens_a_minute),
        calls_at_once: Set(own.calls_at_once),
    };
    limits::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes down credit that was given, or with a minus taken back.
pub async fn add_credit(tx: &Tx, credit: NewCredit<'_>) -> Result<()> {
    let row = credits::ActiveModel {
        id: Set(credit.id),
        account_id: Set(credit.account),
        amount_nanodollars: Set(credit.nanodollars),
        note: Set(credit.note.to_owned()),
        at_ms: Set(credit.at.0),
    };
    credits::Entity::insert(row).exec_without_returning(tx).await?;
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
        .column_as(sum_as_bigint(Expr::col(credits::Column::AmountNanodollars)), "total")
        .filter(credits::Column::AccountId.eq(account));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or(0))
}

async fn spent_on(db: &impl ConnectionTrait, account: AccountId, day: Day) -> Result<i64> {
    let sum = spend_days::Entity::find()
        .select_only()
        .column_as(sum_as_bigint(Expr::col(spend_days::Column::AmountNanodollars)), "total")
        .filter(spend_days::Column::AccountId.eq(account))
        .filter(spend_days::Column::Day.eq(day.to_string()));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or(0))
}
