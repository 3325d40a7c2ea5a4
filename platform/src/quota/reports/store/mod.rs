//! SQL of the reports: reads sums by day and by month through their keys, never receipts.

mod alerts;
mod totals;
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _};

use super::sums::{ModelSpend, MonthSpend, NamedSpend, SpendGroup, SpendScope};
use crate::db::{AccountId, rows};
use crate::quota::calendar::DayRange;
use crate::quota::entities::{allowances, parse, spend_days, sum_as_bigint};

pub use alerts::{alerts_of, mark_told, untold};
pub use totals::{accounts_of_month, allowance_totals, booked, spend_of_all_by_day, spent_on_day};

#[derive(FromQueryResult)]
struct ModelRow {
    provider: String,
    model: String,
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    amount_nanodollars: Nanodollars,
}

/// The spending in `days` by model, dearest first.
pub async fn spend_by_model(db: &impl ConnectionTrait, whose: SpendScope, days: &DayRange) -> Result<Vec<ModelSpend>> {
    use spend_days::Column as By;
    let mut sums = spend_days::Entity::find()
        .select_only()
        .column(By::Provider)
        .column(By::Model)
        .column_as(sum_as_bigint(Expr::col(By::Calls)), "calls")
        .column_as(sum_as_bigint(Expr::col(By::InputTokens)), "input_tokens")
        .column_as(sum_as_bigint(Expr::col(By::OutputTokens)), "output_tokens")
        .column_as(sum_as_bigint(Expr::col(By::AmountNanodollars)), "amount_nanodollars")
        .filter(By::Day.between(days.start().to_string(), days.end().to_string()))
        .group_by(By::Provider)
        .group_by(By::Model);
    if let SpendScope::Account(account) = whose {
        sums = sums.filter(By::AccountId.eq(account));
    }
    let rows: Vec<ModelRow> = sums.into_model().all(db).await?;
    let mut spend: Vec<ModelSpend> = rows
        .into_iter()
        .map(|row| ModelSpend {
            provider: row.provider,
            model: row.model,
            calls: row.calls,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            amount_nanodollars: row.amount_nanodollars,
        })
        .collect();
    spend.sort_by(|a, b| b.amount_nanodollars.cmp(&a.amount_nanodollars).then_with(|| a.model.cmp(&b.model)));
    Ok(spend)
}

/// The sums of one agent, or of one day.
#[derive(FromQueryResult)]
struct NamedRow {
    name: String,
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    amount_nanodollars: Nanodollars,
}

impl From<NamedRow> for NamedSpend {
    fn from(row: NamedRow) -> Self {
        let NamedRow { name, calls, input_tokens, output_tokens, amount_nanodollars } = row;
        Self { name, calls, input_tokens, output_tokens, amount_nanodollars }
    }
}

/// The spending of `account` in `days` by agent or by day, dearest first; at most `most` rows.
pub async fn spend_by(
    db: &impl ConnectionTrait,
    account: AccountId,
    days: &DayRange,
    by: SpendGroup,
    most: u64,
) -> Result<Vec<NamedSpend>> {
    use spend_days::Column as Of;
    let by = match by {
        SpendGroup::Agent => Of::Agent,
        SpendGroup::Day => Of::Day,
    };
    let rows: Vec<NamedRow> = spend_days::Entity::find()
        .select_only()
        .column_as(by, "name")
        .column_as(sum_as_bigint(Expr::col(Of::Calls)), "calls")
        .column_as(sum_as_bigint(Expr::col(Of::InputTokens)), "input_tokens")
        .column_as(sum_as_bigint(Expr::col(Of::OutputTokens)), "output_tokens")
        .column_as(sum_as_bigint(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::AccountId.eq(account))
        .filter(Of::Day.between(days.start().to_string(), days.end().to_string()))
        .group_by(by)
        .order_by_desc(sum_as_bigint(Expr::col(Of::AmountNanodollars)))
        .order_by_asc(by)
        .limit(most)
        .into_model()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(NamedSpend::from).collect())
}

/// The months in which `account` made calls, the newest first; at most `most` of them.
pub async fn months(db: &impl ConnectionTrait, account: AccountId, most: u64) -> Result<Vec<MonthSpend>> {
    let latest = allowances::Entity::find()
        .filter(allowances::Column::AccountId.eq(account))
        .order_by_desc(allowances::Column::Period)
        .limit(most);
    rows::parsed(db, latest, MonthSpend::try_from).await
}

impl TryFrom<allowances::Model> for MonthSpend {
    type Error = Error;

    fn try_from(row: allowances::Model) -> Result<Self> {
        let allowances::Model { period, allowance_nanodollars, spent_nanodollars, .. } = row;
        Ok(Self { period: parse(&period)?, allowance_nanodollars, spent_nanodollars })
    }
}
