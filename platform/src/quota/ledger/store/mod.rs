//! SQL of the ledger. Money is in three tables that the functions here keep consistent: receipts, sums by day, and sums
//! by month.

mod agreement;
mod alerts;
mod receipts;
mod rows;
mod sums;

use berth_ground::error::{Error, Result};
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};

use super::entities::books;
use crate::db::Tx;

pub use agreement::disagreements;
pub use alerts::{DayOfAccount, MonthOfAccount, add_alerts, spent_in_days, spent_in_months};
pub use receipts::{
    ReceiptBatch, ReceiptRange, accounts_with_receipts, add_receipts, any_receipt, corrections_of, existing_receipts,
    forget_receipts, head, latest_receipts, numbers_of_month, receipt, receipts_before, receipts_in,
    receipts_to_reprice, rows_after,
};
pub use rows::StoredReceipt;
pub use sums::{SpendIncrements, add_spent};

/// Rows in one statement: enough to make its fixed cost small. PostgreSQL accepts 65,535 values in a statement.
const ROWS_PER_STATEMENT: usize = 100;
/// The one row of `books`.
const BOOKS: i64 = 1;

/// Opens the books anew: a platform that opened them before finds its epoch outdated and writes no more. Returns the
/// new epoch.
pub async fn open_epoch(tx: &Tx) -> Result<i64> {
    books::Entity::update_many()
        .col_expr(books::Column::Epoch, Expr::col(books::Column::Epoch).add(1))
        .filter(books::Column::Id.eq(BOOKS))
        .exec(tx)
        .await?;
    epoch(tx).await
}

/// The epoch of the latest opening of the books. The shared row lock blocks a new opening until the reading transaction
/// ends.
pub async fn epoch(db: &impl ConnectionTrait) -> Result<i64> {
    let row = books::Entity::find_by_id(BOOKS).lock_shared().one(db).await?;
    row.map(|row| row.epoch).ok_or_else(|| Error::Internal(anyhow::anyhow!("the books have no epoch")))
}
