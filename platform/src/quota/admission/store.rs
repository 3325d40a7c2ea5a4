//! SQL for limits, credit, and the sums from which the books of an account are opened.

use std::collections::BTreeMap;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QuerySelect as _, QueryTrait as _, Set};
use uuid::Uuid;

use super::account_limits::AccountLimits;
use super::books::{Books, ClosedMonth, Credit};
use super::entities::{credits, limits};
use crate::config::CallLimits;
use crate::db::{AccountId, Tx, rows};
use crate::quota::calendar::{Day, DayRange, Month};
use crate::quota::entities::{allowances, parse, spend_days, sum_as_bigint};

/// A grant of credit; taken back when the amount is below zero.
pub struct NewCredit<'a> {
    pub id: Uuid,
    pub account: AccountId,
    pub nanodollars: Nanodollars,
    pub note: &'a str,
    pub at: Timestamp,
}

/// The account's books by the sums in the database, with nothing in flight. `usual`: the installation's limits.
///
/// A row that cannot be read may be that of the present month. No budget is handed out twice for it: the present month
/// has then spent at least what its days sum to, and what the row spent beyond its allowance counts as used credit.
pub async fn books(db: &impl ConnectionTrait, account: AccountId, usual: CallLimits, now: Timestamp) -> Result<Books> {
    let limits = own_limits(db, account).await?.map_or(usual, |own| own.over(usual));
    let (month, today) = (Month::of(now), Day::of(now));
    let rows = allowances::Entity::find().filter(allowances::Column::AccountId.eq(account));
    let rows = db.query_all_raw(rows.build(db.get_database_backend())).await?;
    let (mut by_month, mut of_no_month, count) = (BTreeMap::<Month, _>::new(), Vec::new(), rows.len());
    for row in rows.iter().filter_map(|row| rows::model::<allowances::Entity>(row).ok()) {
        match parse(&row.period) {
            Ok(month) => drop(by_month.insert(month, row)),
            Err(_) => of_no_month.push(row),
        }
    }
    let unreadable = count - by_month.len();
    let mut spent_this_month = by_month.remove(&month).map_or(Nanodollars::ZERO, |row| row.spent_nanodollars);
    if unreadable > 0 {
        spent_this_month = Ord::max(spent_this_month, spent_in(db, account, &month.range()).await?);
        let periods: Vec<&str> = of_no_month.iter().map(|row| &*row.period).collect();
        tracing::error!(
            account.id = %account, unreadable, ?periods, %month, spent_nanodollars = spent_this_month.0,
            "rows of allowances cannot be read; the present month counts as spent by what its days sum to"
        );
    }
    let spent_today = spent_in(db, account, &today.alone()).await?;
    let credit = Credit { granted: credit_granted(db, account).await?, used: Nanodollars::ZERO };
    let mut books = Books::new(limits, credit, spent_this_month, spent_today, now);
    let before_all = Day::FIRST.month();
    for (month, row) in by_month.into_iter().chain(of_no_month.into_iter().map(|row| (before_all, row))) {
        let allowances::Model { allowance_nanodollars, spent_nanodollars, .. } = row;
        books.remember(ClosedMonth { month, allowance_nanodollars, spent_nanodollars });
    }
    Ok(books)
}

/// The account's allowance for `month`, if it made a call in it.
pub async fn allowance(db: &impl ConnectionTrait, account: AccountId, month: Month) -> Result<Option<Nanodollars>> {
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

/// Adds a grant of credit.
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
    total: Option<Nanodollars>,
}

/// All credit that the account was ever given.
pub async fn credit_granted(db: &impl ConnectionTrait, account: AccountId) -> Result<Nanodollars> {
    let sum = credits::Entity::find()
        .select_only()
        .column_as(sum_as_bigint(Expr::col(credits::Column::AmountNanodollars)), "total")
        .filter(credits::Column::AccountId.eq(account));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or_default())
}

async fn spent_in(db: &impl ConnectionTrait, account: AccountId, days: &DayRange) -> Result<Nanodollars> {
    let sum = spend_days::Entity::find()
        .select_only()
        .column_as(sum_as_bigint(Expr::col(spend_days::Column::AmountNanodollars)), "total")
        .filter(spend_days::Column::AccountId.eq(account))
        .filter(spend_days::Column::Day.between(days.start().to_string(), days.end().to_string()));
    Ok(sum.into_model::<Total>().one(db).await?.and_then(|row| row.total).unwrap_or_default())
}
