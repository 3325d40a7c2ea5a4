//! Consistency check of receipts and their sums.

use std::collections::BTreeMap;

use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QuerySelect as _};

use super::super::entities::receipts;
use crate::db::AccountId;
use crate::quota::entities::{allowances, spend_days, sum_as_bigint};

#[derive(FromQueryResult)]
struct DaySum {
    account_id: AccountId,
    day: String,
    total: Option<Nanodollars>,
}

/// A sentence for each sum that differs from the rows it sums. Call it in a snapshot. Days with deleted receipts are
/// checked only against the months.
pub async fn disagreements(db: &impl ConnectionTrait) -> Result<Vec<String>> {
    let by_day: Vec<DaySum> = spend_days::Entity::find()
        .select_only()
        .columns([spend_days::Column::AccountId, spend_days::Column::Day])
        .column_as(sum_as_bigint(Expr::col(spend_days::Column::AmountNanodollars)), "total")
        .group_by(spend_days::Column::AccountId)
        .group_by(spend_days::Column::Day)
        .into_model()
        .all(db)
        .await?;
    let receipted: Vec<DaySum> = receipts::Entity::find()
        .select_only()
        .columns([receipts::Column::AccountId, receipts::Column::Day])
        .column_as(sum_as_bigint(Expr::col(receipts::Column::AmountNanodollars)), "total")
        .group_by(receipts::Column::AccountId)
        .group_by(receipts::Column::Day)
        .into_model()
        .all(db)
        .await?;
    let key = |row: &DaySum| (row.account_id, row.day.clone());
    let by_day: BTreeMap<_, Nanodollars> = by_day.iter().map(|row| (key(row), row.total.unwrap_or_default())).collect();
    let forgotten_until = forgotten_until(db).await?;
    let is_whole = |row: &&DaySum| forgotten_until.get(&row.account_id).is_none_or(|until| row.day > *until);
    let mut wrong = Vec::new();
    for row in receipted.iter().filter(is_whole) {
        let receipts = row.total.unwrap_or_default();
        let sum = by_day.get(&key(row)).copied().unwrap_or_default();
        if receipts != sum {
            wrong.push(format!(
                "account {} on {}: {} nano-dollars are booked, its receipts sum to {}",
                row.account_id, row.day, sum.0, receipts.0
            ));
        }
    }
    let mut months: BTreeMap<(AccountId, String), Nanodollars> = BTreeMap::new();
    for ((account, day), total) in &by_day {
        *months.entry((*account, day.get(..7).unwrap_or(day).to_owned())).or_default() += *total;
    }
    for row in allowances::Entity::find().all(db).await? {
        let allowances::Model { account_id, period, spent_nanodollars, .. } = row;
        let days = months.remove(&(account_id, period.clone())).unwrap_or_default();
        if spent_nanodollars != days {
            wrong.push(format!(
                "account {account_id} in {period}: spent is {}, its days sum to {}",
                spent_nanodollars.0, days.0
            ));
        }
    }
    for ((account, period), days) in months.into_iter().filter(|(_, days)| *days != Nanodollars::ZERO) {
        wrong.push(format!("account {account} in {period}: its days sum to {}, and no month has them", days.0));
    }
    Ok(wrong)
}

/// For each account with deleted older receipts, the day of the oldest receipt kept: some receipts of that day are
/// missing.
async fn forgotten_until(db: &impl ConnectionTrait) -> Result<BTreeMap<AccountId, String>> {
    #[derive(FromQueryResult)]
    struct Oldest {
        account_id: AccountId,
        seq: Option<i64>,
    }
    let oldest: Vec<Oldest> = receipts::Entity::find()
        .select_only()
        .column(receipts::Column::AccountId)
        .column_as(receipts::Column::Seq.min(), "seq")
        .filter(receipts::Column::Seq.gt(0))
        .group_by(receipts::Column::AccountId)
        .into_model()
        .all(db)
        .await?;
    let mut until = BTreeMap::new();
    for Oldest { account_id, seq } in oldest {
        let Some(seq) = seq.filter(|seq| *seq > 1) else { continue };
        let kept = receipts::Entity::find()
            .filter(receipts::Column::AccountId.eq(account_id))
            .filter(receipts::Column::Seq.eq(seq));
        until.extend(kept.one(db).await?.map(|receipt| (account_id, receipt.day)));
    }
    Ok(until)
}
