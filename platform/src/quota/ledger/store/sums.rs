//! Sums by month and by day, and the increments of a batch of receipts.

use std::collections::BTreeMap;

use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use sea_orm::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, OnConflict};

use super::super::receipt::Receipt;
use super::ROWS_PER_STATEMENT;
use crate::db::{AccountId, Tx};
use crate::quota::calendar::{Day, Month};
use crate::quota::entities::{allowances, spend_days};

/// The increments of the sums by a batch of receipts.
#[derive(Default)]
pub struct SpendIncrements {
    months: BTreeMap<(AccountId, Month), MonthIncrement>,
    days: BTreeMap<(AccountId, Day, String, String, String), DayIncrement>,
}

#[derive(Default)]
struct MonthIncrement {
    allowance_nanodollars: Nanodollars,
    spent_nanodollars: Nanodollars,
}

#[derive(Default)]
struct DayIncrement {
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    amount_nanodollars: Nanodollars,
}

impl SpendIncrements {
    /// Adds one receipt.
    pub fn add(&mut self, receipt: &Receipt, allowance_nanodollars: Nanodollars) {
        let month = self.months.entry((receipt.account_id, receipt.period)).or_default();
        month.allowance_nanodollars = allowance_nanodollars;
        month.spent_nanodollars += receipt.amount_nanodollars;
        let (provider, model, agent) = (&receipt.provider, &receipt.model, &receipt.agent);
        let key = (receipt.account_id, receipt.day, provider.clone(), model.clone(), agent.clone());
        let day = self.days.entry(key).or_default();
        // A correction adds money, and no call.
        day.calls += i64::from(receipt.corrects.is_none());
        day.input_tokens += receipt.input_tokens
            + receipt.cache_write_tokens
            + receipt.cache_write_long_tokens
            + receipt.cache_read_tokens;
        day.output_tokens += receipt.output_tokens;
        day.amount_nanodollars += receipt.amount_nanodollars;
    }
}

/// Adds to the sums by month and by day.
pub async fn add_spent(tx: &Tx, spent: SpendIncrements) -> Result<()> {
    use spend_days::Column as By;
    let months = spent.months.into_iter().map(|((account_id, month), sums)| allowances::ActiveModel {
        account_id: Set(account_id),
        period: Set(month.to_string()),
        allowance_nanodollars: Set(sums.allowance_nanodollars),
        spent_nanodollars: Set(sums.spent_nanodollars),
    });
    let mut key = OnConflict::columns([allowances::Column::AccountId, allowances::Column::Period]);
    key.update_column(allowances::Column::AllowanceNanodollars);
    key.value(allowances::Column::SpentNanodollars, added(allowances::Entity, allowances::Column::SpentNanodollars));
    add_rows(tx, months.collect(), &key).await?;
    let days =
        spent.days.into_iter().map(|((account_id, day, provider, model, agent), sums)| spend_days::ActiveModel {
            account_id: Set(account_id),
            day: Set(day.to_string()),
            provider: Set(provider),
            model: Set(model),
            agent: Set(agent),
            calls: Set(sums.calls),
            input_tokens: Set(sums.input_tokens),
            output_tokens: Set(sums.output_tokens),
            amount_nanodollars: Set(sums.amount_nanodollars),
        });
    let mut key = OnConflict::columns([By::AccountId, By::Day, By::Provider, By::Model, By::Agent]);
    for sum in [By::Calls, By::InputTokens, By::OutputTokens, By::AmountNanodollars] {
        key.value(sum, added(spend_days::Entity, sum));
    }
    add_rows(tx, days.collect(), &key).await
}

async fn add_rows<A: ActiveModelTrait + Send>(tx: &Tx, mut rows: Vec<A>, meets: &OnConflict) -> Result<()> {
    while !rows.is_empty() {
        let some = rows.drain(..rows.len().min(ROWS_PER_STATEMENT));
        A::Entity::insert_many(some).on_conflict(meets.clone()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The sum of the existing and the inserted value of `column`. The database adds: a read before would race.
fn added(table: impl EntityTrait, column: impl ColumnTrait) -> Expr {
    Expr::col((table, column)).add(Expr::col((Alias::new("excluded"), column)))
}
