//! Alerts for pages, and alerts that were not told yet.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};

use crate::db::{AccountId, Tx, rows};
use crate::quota::calendar::Period;
use crate::quota::entities::{alerts, parse};
use crate::quota::ledger::BudgetAlert;

/// The account's alerts about any of `periods`, in the order of their thresholds.
pub async fn alerts_of(
    db: &impl ConnectionTrait,
    account: AccountId,
    periods: [Period; 2],
) -> Result<Vec<BudgetAlert>> {
    let theirs = alerts::Entity::find()
        .filter(alerts::Column::AccountId.eq(account))
        .filter(alerts::Column::Period.is_in(periods.map(String::from)))
        .order_by_asc(alerts::Column::Period)
        .order_by_asc(alerts::Column::Percent);
    rows::parsed(db, theirs, plain).await
}

/// Alerts without a time of telling, the oldest first; at most `most` of them.
pub async fn untold(db: &impl ConnectionTrait, most: u64) -> Result<Vec<BudgetAlert>> {
    let oldest = alerts::Entity::find()
        .filter(alerts::Column::ToldAtMs.is_null())
        .order_by_asc(alerts::Column::RaisedAtMs)
        .order_by_asc(alerts::Column::Percent)
        .limit(most);
    rows::parsed(db, oldest, plain).await
}

/// Marks `alert` as told; `false` when it was told already.
pub async fn mark_told(tx: &Tx, alert: &BudgetAlert, now: Timestamp) -> Result<bool> {
    let told = alerts::Entity::update_many()
        .set(alerts::ActiveModel { told_at_ms: Set(Some(now.0)), ..Default::default() })
        .filter(alerts::Column::AccountId.eq(alert.account_id))
        .filter(alerts::Column::Period.eq(alert.period.to_string()))
        .filter(alerts::Column::Percent.eq(alert.percent))
        .filter(alerts::Column::ToldAtMs.is_null())
        .exec(tx)
        .await?;
    Ok(told.rows_affected > 0)
}

fn plain(row: alerts::Model) -> Result<BudgetAlert> {
    Ok(BudgetAlert {
        account_id: row.account_id,
        period: parse(&row.period)?,
        percent: row.percent,
        allowance_nanodollars: row.allowance_nanodollars,
        spent_nanodollars: row.spent_nanodollars,
        raised_at_ms: row.raised_at_ms,
    })
}
