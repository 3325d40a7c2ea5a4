//! Quota: what a call may cost is held before it is made, and what it did cost is settled after.

use std::sync::Arc;

use serde::Serialize;

use crate::db::AccountId;
use crate::error::Result;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Quota(Arc<Inner>);

struct Inner {}

/// What an account spent on AI calls in one calendar month.
#[derive(Clone, Debug, Serialize)]
pub struct Spend {
    /// The month in UTC, `2026-11`.
    pub period: String,
    pub allowance_nanodollars: i64,
    pub spent_nanodollars: i64,
    /// Held for calls in flight; not spendable meanwhile.
    pub held_nanodollars: i64,
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModelSpend {
    pub provider: String,
    pub model: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: i64,
}

impl Quota {
    /// What `account` spent this month. An account that made no call yet has its whole allowance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spend(&self, _account: AccountId) -> Result<Spend> {
        todo!()
    }
}
