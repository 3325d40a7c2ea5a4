//! Raising alerts, and the sums that decide about them.

use std::collections::HashSet;

use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{FromQueryResult, QuerySelect as _, Set};

use super::super::budget_alert::BudgetAlert;
use crate::db::{AccountId, Tx, rows};
use crate::quota::calendar::{Day, Month};
use crate::quota::entities::{alerts, allowances, parse, spend_days, sum_as_bigint};

/// Allowance and spending of one account in a month.
pub struct MonthOfAccount {
    pub account: AccountId,
    pub month: Month,
    pub allowance_nanodollars: Nanodollars,
    pub spent_nanodollars: Nanodollars,
}

/// Spending of one account on a day; the sums by day have no allowance.
pub struct DayOfAccount {
    pub account: AccountId,
    pub day: Day,
    pub spent_nanodollars: Nanodollars,
}

/// The sums of these accounts in these months; also of other pairs of the same accounts and months.
pub async fn spent_in_months(tx: &Tx, months: &HashSet<(AccountId, Month)>) -> Result<Vec<MonthOfAccount>> {
    if months.is_empty() {
        return Ok(Vec::new());
    }
    let names: HashSet<String> = months.iter().map(|(_, month)| month.to_string()).collect();
    let asked = allowances::Entity::find()
        .filter(allowances::Column::AccountId.is_in(months.iter().map(|(account, _)| *account)))
        .filter(allowances::Column::Period.is_in(names));
    let plain = |row: allowances::Model| {
        Ok(MonthOfAccount {
            account: row.account_id,
            month: parse(&row.period)?,
            allowance_nanodollars: row.allowance_nanodollars,
            spent_nanodollars: row.spent_nanodollars,
        })
    };
    rows::parsed(tx, asked, plain).await
}

/// The sums of these accounts on these days; also of other pairs of the same accounts and days.
pub async fn spent_in_days<'a>(
    tx: &Tx,
    days: impl Iterator<Item = &'a (AccountId, Day)> + Clone,
) -> Result<Vec<DayOfAccount>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
        day: String,
        total: Nanodollars,
    }
    if days.clone().next().is_none() {
        return Ok(Vec::new());
    }
    use spend_days::Column as Of;
    let names: HashSet<String> = days.clone().map(|(_, day)| day.to_string()).collect();
    let rows = spend_days::Entity::find()
        .select_only()
        .columns([Of::AccountId, Of::Day])
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "total")
        .filter(Of::AccountId.is_in(days.map(|(account, _)| *account)))
        .filter(Of::Day.is_in(names))
        .group_by(Of::AccountId)
        .group_by(Of::Day)
        .into_model::<Row>()
        .all(tx)
        .await?;
    let plain =
        |row: Row| Ok(DayOfAccount { account: row.account_id, day: parse(&row.day)?, spent_nanodollars: row.total });
    rows.into_iter().map(plain).collect()
}

/// Adds the alerts that are not there yet.
pub async fn add_alerts(tx: &Tx, due: Vec<BudgetAlert>) -> Result<()> {
    use alerts::Column as Of;
    if due.is_empty() {
        return Ok(());
    }
    let rows = due.into_iter().map(|alert| alerts::ActiveModel {
        account_id: Set(alert.account_id),
        period: Set(alert.period.to_string()),
        percent: Set(alert.percent),
        allowance_nanodollars: Set(alert.allowance_nanodollars),
        spent_nanodollars: Set(alert.spent_nanodollars),
        raised_at_ms: Set(alert.raised_at_ms),
        told_at_ms: Set(None),
    });
    // Each batch finds a reached threshold again; the key lets its alert be raised once.
    let same = OnConflict::columns([Of::AccountId, Of::Period, Of::Percent]).do_nothing().to_owned();
    alerts::Entity::insert_many(rows).on_conflict(same).try_insert().exec_without_returning(tx).await?;
    Ok(())
}
