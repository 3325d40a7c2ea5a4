//! Sums over all accounts, for the operator: by month and by day through `allowances_by_period` and `spend_by_day`.

use std::collections::HashMap;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _};

use super::sums::{MonthSum, Sum};
use super::whole;
use crate::db::AccountId;
use crate::error::Result;
use crate::quota::calendar::Days;
use crate::quota::entities::{allowances, spend_days};
use crate::quota::reports::bill_comparison::Booked;

/// Which accounts come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those that spent most.
    Dearest,
    /// Those that are nearest to their allowance, or furthest beyond it.
    Nearest,
}

/// What all accounts spent in `period`, how many they are, and how many of them spent at least four fifths of their
/// allowance.
pub async fn month_of_all(db: &impl ConnectionTrait, period: &str) -> Result<(i64, i64, i64)> {
    #[derive(FromQueryResult)]
    struct Row {
        spent: Option<i64>,
        accounts: i64,
    }
    let of_period = || allowances::Entity::find().filter(allowances::Column::Period.eq(period));
    let row = of_period()
        .select_only()
        .column_as(whole(Expr::col(allowances::Column::SpentNanodollars)), "spent")
        .column_as(allowances::Column::AccountId.count(), "accounts")
        .into_model::<Row>()
        .one(db)
        .await?;
    // Multiplied in floating point: an allowance may be as large as the type.
    let nearly = of_period()
        .filter(allowances::Column::SpentNanodollars.gt(0))
        .filter(Expr::cust("spent_nanodollars >= allowance_nanodollars * 0.8"))
        .count(db)
        .await?;
    let (spent, accounts) = row.map_or((0, 0), |row| (row.spent.unwrap_or(0), row.accounts));
    Ok((spent, accounts, i64::try_from(nearly).unwrap_or(i64::MAX)))
}

/// What all accounts spent on each of `days`, in no order.
pub async fn spend_of_all_by_day(db: &impl ConnectionTrait, days: &Days) -> Result<Vec<Sum>> {
    use spend_days::Column as Of;
    Ok(spend_days::Entity::find()
        .select_only()
        .column_as(Of::Day, "name")
        .column_as(whole(Expr::col(Of::Calls)), "calls")
        .column_as(whole(Expr::col(Of::InputTokens)), "input_tokens")
        .column_as(whole(Expr::col(Of::OutputTokens)), "output_tokens")
        .column_as(whole(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::Day.between(&*days.first, &*days.last))
        .group_by(Of::Day)
        .into_model()
        .all(db)
        .await?)
}

/// The accounts with a call in `period`: `most` of them after the first `skipped`.
pub async fn accounts_of_month(
    db: &impl ConnectionTrait,
    period: &str,
    order: Order,
    (skipped, most): (u64, u64),
) -> Result<Vec<(AccountId, MonthSum)>> {
    use allowances::Column as Of;
    let of_period = allowances::Entity::find().filter(Of::Period.eq(period));
    let ordered = match order {
        Order::Dearest => of_period.order_by_desc(Of::SpentNanodollars),
        Order::Nearest => of_period.order_by_desc(Expr::cust(
            "spent_nanodollars * 1.0 / (CASE WHEN allowance_nanodollars > 0 THEN allowance_nanodollars ELSE 1 END)",
        )),
    };
    let rows = ordered.order_by_asc(Of::AccountId).offset(skipped).limit(most).all(db).await?;
    let row = |row: allowances::Model| {
        let allowances::Model { account_id, period, allowance_nanodollars, spent_nanodollars } = row;
        (account_id, MonthSum { period, allowance_nanodollars, spent_nanodollars })
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What each of `accounts` spent on `day`.
pub async fn spent_on_day(
    db: &impl ConnectionTrait,
    accounts: impl Iterator<Item = AccountId>,
    day: &str,
) -> Result<HashMap<AccountId, i64>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
        total: i64,
    }
    use spend_days::Column as Of;
    let rows = spend_days::Entity::find()
        .select_only()
        .column(Of::AccountId)
        .column_as(whole(Expr::col(Of::AmountNanodollars)), "total")
        .filter(Of::AccountId.is_in(accounts))
        .filter(Of::Day.eq(day))
        .group_by(Of::AccountId)
        .into_model::<Row>()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.total)).collect())
}

/// What was booked in `days`, by day and model.
pub async fn booked(db: &impl ConnectionTrait, days: &Days) -> Result<Vec<Booked>> {
    #[derive(FromQueryResult)]
    struct Row {
        day: String,
        provider: String,
        model: String,
        amount_nanodollars: i64,
    }
    use spend_days::Column as Of;
    let rows = spend_days::Entity::find()
        .select_only()
        .columns([Of::Day, Of::Provider, Of::Model])
        .column_as(whole(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::Day.between(&*days.first, &*days.last))
        .group_by(Of::Day)
        .group_by(Of::Provider)
        .group_by(Of::Model)
        .into_model::<Row>()
        .all(db)
        .await?;
    let row = |Row { day, provider, model, amount_nanodollars }| Booked { day, provider, model, amount_nanodollars };
    // A provider bills the operator nothing for calls under people's own keys, at whichever model.
    Ok(rows.into_iter().map(row).filter(|booked| booked.amount_nanodollars != 0).collect())
}
