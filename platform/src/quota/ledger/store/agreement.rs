//! Whether receipts and their sums agree.

use std::collections::BTreeMap;

use berth_ground::error::Result;
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
    total: Option<i64>,
}

/// For each sum that disagrees with what it is the sum of, a sentence. Call where all statements see the same moment.
/// A day has only its sums after its receipts were deleted with age.
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
    let by_day: BTreeMap<_, i64> = by_day.iter().map(|row| (key(row), row.total.unwrap_or(0))).collect();
    let forgotten_until = forgotten_until(db).await?;
    let is_whole = |row: &&DaySum| forgotten_until.get(&row.account_id).is_none_or(|until| row.day > *until);
    let mut wrong = Vec::new();
    for row in receipted.iter().filter(is_whole) {
        let (receipts, sum) = (row.total.unwrap_or(0), by_day.get(&key(row)).copied().unwrap_or(0));
        if receipts != sum {
            wrong.push(format!(
                "account {} on {}: {sum} nano-dollars are booked, its receipts sum to {receipts}",
                row.account_id, row.day
            ));
        }
    }
    let mut months: BTreeMap<(AccountId, String), i64> = BTreeMap::new();
    for ((account, day), total) in &by_day {
        *months.entry((*account, day.get(..7).unwrap_or(day).to_owned())).or_default() += total;
    }
    for row in allowances::Entity::find().all(db).await? {
        let allowances::Model { account_id, period, spent_nanodollars, .. } = row;
        let days = months.remove(&(account_id, period.clone())).unwrap_or(0);
        if spent_nanodollars != days {
            wrong.push(format!(
                "account {account_id} in {period}: spent is {spent_nanodollars}, its days sum to {days}"
            ));
        }
    }
    for ((account, period), days) in months.into_iter().filter(|(_, days)| *days != 0) {
        wrong.push(format!("account {account} in {period}: its days sum to {days}, and no month has them"));
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
