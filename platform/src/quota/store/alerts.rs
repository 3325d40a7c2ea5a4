//! Alerts, and the sums that raise them.

use std::collections::HashSet;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _, Set};

use super::whole;
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::Result;
use crate::quota::entities::{alerts, allowances, spend_days};

type Named<'a> = (AccountId, &'a str);

/// Allowance and sum of each of these accounts' months; more than were asked for when their months differ.
pub async fn spent_in_months(tx: &Tx, months: &HashSet<Named<'_>>) -> Result<Vec<(AccountId, String, i64, i64)>> {
    if months.is_empty() {
        return Ok(Vec::new());
    }
    let rows = allowances::Entity::find()
        .filter(allowances::Column::AccountId.is_in(months.iter().map(|(account, _)| *account)))
        .filter(allowances::Column::Period.is_in(distinct(months.iter())))
        .all(tx)
        .await?;
    let row = |row: allowances::Model| (row.account_id, row.period, row.allowance_nanodollars, row.spent_nanodollars);
    Ok(rows.into_iter().map(row).collect())
}

/// The sum of each of these accounts' days; more than were asked for when their days differ.
pub async fn spent_in_days<'a>(
    tx: &Tx,
    days: impl Iterator<Item = &'a Named<'a>> + Clone,
) -> Result<Vec<(AccountId, String, i64)>> {
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
        .column_as(whole(Expr::col(Of::AmountNanodollars)), "total")
        .filter(Of::AccountId.is_in(days.clone().map(|(account, _)| *account)))
        .filter(Of::Day.is_in(distinct(days)))
        .group_by(Of::AccountId)
        .group_by(Of::Day)
        .into_model::<Row>()
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.day, row.total)).collect())
}

fn distinct<'a>(named: impl Iterator<Item = &'a Named<'a>>) -> HashSet<&'a str> {
    named.map(|(_, name)| *name).collect()
}

/// Writes alerts down that are not there yet.
pub async fn raise(tx: &Tx, due: Vec<alerts::Model>) -> Result<()> {
    use alerts::Column as Of;
    if due.is_empty() {
        return Ok(());
    }
    let rows = due.into_iter().map(|alert| alerts::ActiveModel::from(alert).reset_all());
    let same = OnConflict::columns([Of::AccountId, Of::Period, Of::Percent]).do_nothing().to_owned();
    alerts::Entity::insert_many(rows).on_conflict(same).try_insert().exec_without_returning(tx).await?;
    Ok(())
}

/// The account's alerts about any of `periods`, in the order of their thresholds.
pub async fn alerts_of(
    db: &impl ConnectionTrait,
    account: AccountId,
    periods: [String; 2],
) -> Result<Vec<alerts::Model>> {
    Ok(alerts::Entity::find()
        .filter(alerts::Column::AccountId.eq(account))
        .filter(alerts::Column::Period.is_in(periods))
        .order_by_asc(alerts::Column::Period)
        .order_by_asc(alerts::Column::Percent)
        .all(db)
        .await?)
}

/// Alerts that were told to nobody, the oldest first; at most `most` of them.
pub async fn untold(db: &impl ConnectionTrait, most: u64) -> Result<Vec<alerts::Model>> {
    Ok(alerts::Entity::find()
        .filter(alerts::Column::ToldAtMs.is_null())
        .order_by_asc(alerts::Column::RaisedAtMs)
        .order_by_asc(alerts::Column::Percent)
        .limit(most)
        .all(db)
        .await?)
}

/// Notes that `alert` is told; `false` when it was already.
pub async fn told(tx: &Tx, alert: &alerts::Model, now: Timestamp) -> Result<bool> {
    let told = alerts::Entity::update_many()
        .set(alerts::ActiveModel { told_at_ms: Set(Some(now.0)), ..Default::default() })
        .filter(alerts::Column::AccountId.eq(alert.account_id))
        .filter(alerts::Column::Period.eq(&*alert.period))
        .filter(alerts::Column::Percent.eq(alert.percent))
        .filter(alerts::Column::ToldAtMs.is_null())
        .exec(tx)
        .await?;
    Ok(told.rows_affected > 0)
}
