//! Sums for whoever looks: read from sums by day and by month through their keys, never from receipts.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{FromQueryResult, QueryOrder as _, QuerySelect as _};
use serde::Serialize;

use super::whole;
use crate::db::AccountId;
use crate::error::Result;
use crate::quota::calendar::Days;
use crate::quota::entities::{allowances, spend_days};

/// What something of one name came to: an agent, or a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromQueryResult)]
pub struct Sum {
    pub name: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: i64,
}

/// What an account could spend in a month, and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromQueryResult)]
pub struct MonthSum {
    pub period: String,
    pub allowance_nanodollars: i64,
    pub spent_nanodollars: i64,
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Agent,
    Day,
}

/// What `account` spent in `days`, dearest first; at most `most` of them.
pub async fn spend_by(
    db: &impl ConnectionTrait,
    account: AccountId,
    days: &Days,
    by: By,
    most: u64,
) -> Result<Vec<Sum>> {
    use spend_days::Column as Of;
    let by = match by {
        By::Agent => Of::Agent,
        By::Day => Of::Day,
    };
    Ok(spend_days::Entity::find()
        .select_only()
        .column_as(by, "name")
        .column_as(whole(Expr::col(Of::Calls)), "calls")
        .column_as(whole(Expr::col(Of::InputTokens)), "input_tokens")
        .column_as(whole(Expr::col(Of::OutputTokens)), "output_tokens")
        .column_as(whole(Expr::col(Of::AmountNanodollars)), "amount_nanodollars")
        .filter(Of::AccountId.eq(account))
        .filter(Of::Day.between(&*days.first, &*days.last))
        .group_by(by)
        .order_by_desc(whole(Expr::col(Of::AmountNanodollars)))
        .order_by_asc(by)
        .limit(most)
        .into_model()
        .all(db)
        .await?)
}

/// The months in which `account` made calls, the newest first; at most `most` of them.
pub async fn months(db: &impl ConnectionTrait, account: AccountId, most: u64) -> Result<Vec<MonthSum>> {
    Ok(allowances::Entity::find()
        .filter(allowances::Column::AccountId.eq(account))
        .order_by_desc(allowances::Column::Period)
        .limit(most)
        .into_model()
        .all(db)
        .await?)
}
