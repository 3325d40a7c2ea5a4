//! Sums over all accounts, for the operator: by month and by day through `allowances_by_period` and `spend_by_day`.

use std::collections::HashMap;

use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _};

use super::super::sums::{AccountMonth, AccountOrder, AllowanceTotals, BookedSpend, NamedSpend};
use super::NamedRow;
use crate::db::AccountId;
use crate::quota::calendar::{Day, DayRange, Month};
use crate::quota::entities::{allowances, parse, spend_days, sum_as_bigint};

/// The spending of all accounts in `month`, their number, and the number that spent at least 80 % of their allowance.
pub async fn allowance_totals(db: &impl ConnectionTrait, month: Month) -> Result<AllowanceTotals> {
    #[derive(FromQueryResult)]
    struct Row {
        spent: Option<Nanodollars>,
        accounts: i64,
    }
    let of_period = || allowances::Entity::find().filter(allowances::Column::Period.eq(month.to_string()));
    let row = of_period()
        .select_only()
        .column_as(sum_as_bigint(Expr::col(allowances::Column::SpentNanodollars)), "spent")
        .column_as(allowances::Column::AccountId.count(), "accounts")
        .into_model::<Row>()
        .one(db)
        .await?;
    // In floating point: an allowance may be the largest i64, and an integer product would overflow.
    let nearly = of_period()
        .filter(allowances::Column::SpentNanodollars.gt(0))
        .filter(Expr::cust("spent_nanodollars >= allowance_nanodollars * 0.8"))
        .count(db)
        .await?;
    let (spent_nanodollars, accounts) =
        row.map_or_else(Default::default, |row| (row.spent.unwrap_or_default(), row.accounts));
    Ok(AllowanceTotals { spent_nanodollars, accounts, nearly_spent: i64::try_from(nearly).unwrap_or(i64::MAX) })
}

/// The spending of all accounts on each of `days`, unordered.
pub async fn spend_of_all_by_day(db: &impl ConnectionTrait, days: &DayRange) -> Result<Vec<NamedSpend>> {
    use spend_days::Column as Of;
    let rows: Vec<NamedRow> = spend_days::Entity::find()
        .select_only()
        .column_as(Of::Day, "name")
        .column_as(sum_as_bigint(Expr::col(Of::Calls)), "calls")
        .column_as(sum_as_bigint(Expr::col(Of::InputTokens)), "input_tokens")
        .column_as(sum_as_bigint(Expr::col(Of::OutputTokens)), "output_tokens")
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::Day.between(days.start().to_string(), days.end().to_string()))
        .group_by(Of::Day)
        .into_model()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(NamedSpend::from).collect())
}

/// The accounts with a call in `month`: `most` of them after the first `skipped`.
pub async fn accounts_of_month(
    db: &impl ConnectionTrait,
    month: Month,
    order: AccountOrder,
    skipped: u64,
    most: u64,
) -> Result<Vec<AccountMonth>> {
    use allowances::Column as Of;
    let of_period = allowances::Entity::find().filter(Of::Period.eq(month.to_string()));
    let ordered = match order {
        AccountOrder::Dearest => of_period.order_by_desc(Of::SpentNanodollars),
        AccountOrder::Nearest => of_period.order_by_desc(Expr::cust(
            "spent_nanodollars * 1.0 / (CASE WHEN allowance_nanodollars > 0 THEN allowance_nanodollars ELSE 1 END)",
        )),
    };
    let rows = ordered.order_by_asc(Of::AccountId).offset(skipped).limit(most).all(db).await?;
    let plain = |row: allowances::Model| AccountMonth {
        account: row.account_id,
        allowance_nanodollars: row.allowance_nanodollars,
        spent_nanodollars: row.spent_nanodollars,
    };
    Ok(rows.into_iter().map(plain).collect())
}

/// The spending of each of `accounts` on `day`.
pub async fn spent_on_day(
    db: &impl ConnectionTrait,
    accounts: impl Iterator<Item = AccountId>,
    day: Day,
) -> Result<HashMap<AccountId, Nanodollars>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
        total: Nanodollars,
    }
    use spend_days::Column as Of;
    let rows = spend_days::Entity::find()
        .select_only()
        .column(Of::AccountId)
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "total")
        .filter(Of::AccountId.is_in(accounts))
        .filter(Of::Day.eq(day.to_string()))
        .group_by(Of::AccountId)
        .into_model::<Row>()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.total)).collect())
}

/// The booked spending in `days`, by day and model.
pub async fn booked(db: &impl ConnectionTrait, days: &DayRange) -> Result<Vec<BookedSpend>> {
    #[derive(FromQueryResult)]
    struct Row {
        day: String,
        provider: String,
        model: String,
        amount_nanodollars: Nanodollars,
    }
    use spend_days::Column as Of;
    let rows = spend_days::Entity::find()
        .select_only()
        .columns([Of::Day, Of::Provider, Of::Model])
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::Day.between(days.start().to_string(), days.end().to_string()))
        .group_by(Of::Day)
        .group_by(Of::Provider)
        .group_by(Of::Model)
        .into_model::<Row>()
        .all(db)
        .await?;
    let plain = |Row { day, provider, model, amount_nanodollars }| match parse(&day) {
        Ok(day) => Some(BookedSpend { day, provider, model, amount_nanodollars }),
        Err(error) => {
            tracing::error!(day, provider, model, ?error, "spending on a day that is none is left out");
            None
        }
    };
    // A provider bills the operator nothing for calls under people's own keys, at whichever model.
    Ok(rows.into_iter().filter(|row| row.amount_nanodollars != Nanodollars::ZERO).filter_map(plain).collect())
}
