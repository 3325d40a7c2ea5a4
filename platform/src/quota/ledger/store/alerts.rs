//! Alerts that are raised, and the sums that raise them.

use std::collections::HashSet;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{FromQueryResult, QuerySelect as _, Set};

use super::super::budget_alert::BudgetAlert;
use crate::db::{AccountId, Tx};
use crate::error::Result;
use crate::quota::entities::{alerts, allowances, spend_days, sum_as_bigint};

type AccountPeriod<'a> = (AccountId, &'a str);

/// What one account could spend and did spend in a month, or on a day.
pub struct PeriodSpend {
    pub account: AccountId,
    pub period: String,
    /// 0 for a day, of which the sums know no allowance.
    pub allowance_nanodollars: i64,
    pub spent_nanodollars: i64,
}

/// Allowance and sum of each of these accounts' months; more than were asked for when their months differ.
pub async fn spent_in_months(tx: &Tx, months: &HashSet<AccountPeriod<'_>>) -> Result<Vec<PeriodSpend>> {
    if months.is_empty() {
        return Ok(Vec::new());
    }
    let rows = allowances::Entity::find()
        .filter(allowances::Column::AccountId.is_in(months.iter().map(|(account, _)| *account)))
        .filter(allowances::Column::Period.is_in(distinct(months.iter())))
        .all(tx)
        .await?;
    let plain = |row: allowances::Model| PeriodSpend {
        account: row.account_id,
        period: row.period,
        allowance_nanodollars: row.allowance_nanodollars,
        spent_nanodollars: row.spent_nanodollars,
    };
    Ok(rows.into_iter().map(plain).collect())
}

/// The sum of each of these accounts' days; more than were asked for when their days differ.
pub async fn spent_in_days<'a>(
    tx: &Tx,
    days: impl Iterator<Item = &'a AccountPeriod<'a>> + Clone,
) -> Result<Vec<PeriodSpend>> {
    #[derive(FromQueryResult)]
    struct Row {
        account_id: AccountId,
        day: String,
        total: i64,
    }
    if days.clone().next().is_none() {
        return Ok(Vec::new());
    }
    use spend_days::Column as Of;
    let rows = spend_days::Entity::find()
        .select_only()
        .columns([Of::AccountId, Of::Day])
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "total")
        .filter(Of::AccountId.is_in(days.clone().map(|(account, _)| *account)))
        .filter(Of::Day.is_in(distinct(days)))
        .group_by(Of::AccountId)
        .group_by(Of::Day)
        .into_model::<Row>()
        .all(tx)
        .await?;
    let plain = |row: Row| PeriodSpend {
        account: row.account_id,
        period: row.day,
        allowance_nanodollars: 0,
        spent_nanodollars: row.total,
    };
    Ok(rows.into_iter().map(plain).collect())
}

fn distinct<'a>(periods: impl Iterator<Item = &'a AccountPeriod<'a>>) -> HashSet<&'a str> {
    periods.map(|(_, name)| *name).collect()
}

/// Writes alerts down that are not there yet.
pub async fn add_alerts(tx: &Tx, due: Vec<BudgetAlert>) -> Result<()> {
    use alerts::Column as Of;
    if due.is_empty() {
        return Ok(());
    }
    let rows = due.into_iter().map(|alert| alerts::ActiveModel {
        account_id: Set(alert.account_id),
        period: Set(alert.period),
        percent: Set(alert.percent),
        allowance_nanodollars: Set(alert.allowance_nanodollars),
        spent_nanodollars: Set(alert.spent_nanodollars),
        raised_at_ms: Set(alert.raised_at_ms),
        told_at_ms: Set(None),
    });
    let same = OnConflict::columns([Of::AccountId, Of::Period, Of::Percent]).do_nothing().to_owned();
    alerts::Entity::insert_many(rows).on_conflict(same).try_insert().exec_without_returning(tx).await?;
    Ok(())
}
