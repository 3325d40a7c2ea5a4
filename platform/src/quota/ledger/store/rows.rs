//! Receipts as rows of their table, in both directions.

use berth_ground::error::{Error, Result};
use sea_orm::{QueryResult, Value};

use super::super::entities::receipts::{Column as Of, Entity, Model};
use super::super::receipt::{Receipt, UnreadableReceipt};
use crate::quota::entities::parse;

/// A row of the table, which may have been altered to something that is no receipt.
pub enum StoredReceipt {
    Receipt(Box<Receipt>),
    Unreadable(UnreadableReceipt),
}

impl StoredReceipt {
    /// The number in the chain, unless it is that which cannot be read.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Receipt(receipt) => Some(receipt.seq),
            Self::Unreadable(row) => row.seq,
        }
    }
}

impl From<&QueryResult> for StoredReceipt {
    /// A row that is no receipt is logged: lists leave it out.
    fn from(row: &QueryResult) -> Self {
        match crate::db::rows::model::<Entity>(row).and_then(Receipt::try_from) {
            Ok(receipt) => Self::Receipt(Box::new(receipt)),
            Err(error) => {
                let unreadable = UnreadableReceipt {
                    id: row.try_get("", "id").ok(),
                    seq: row.try_get("", "seq").ok(),
                    hash: row.try_get("", "hash").ok(),
                };
                tracing::error!(row = ?unreadable, ?error, "a receipt was altered and cannot be read; see berth receipts verify");
                Self::Unreadable(unreadable)
            }
        }
    }
}

/// Every column, in the order of [`values_of`].
pub const COLUMNS: [Of; 30] = [
    Of::Id,
    Of::AccountId,
    Of::InstanceId,
    Of::Period,
    Of::Day,
    Of::Provider,
    Of::Model,
    Of::Agent,
    Of::PriceVersion,
    Of::HeldNanodollars,
    Of::AmountNanodollars,
    Of::InputTokens,
    Of::CacheWriteTokens,
    Of::CacheWriteLongTokens,
    Of::CacheReadTokens,
    Of::OutputTokens,
    Of::Basis,
    Of::Outcome,
    Of::Counted,
    Of::Usage,
    Of::HeldAtMs,
    Of::SettledAtMs,
    Of::Corrects,
    Of::Reason,
    Of::Seq,
    Of::Previous,
    Of::Hash,
    Of::Signature,
    Of::Payer,
    Of::WorthNanodollars,
];

/// The values of a receipt's row, in the order of [`COLUMNS`].
pub fn values_of(receipt: &Receipt) -> [Value; 30] {
    let text = |text: &str| Value::from(text);
    [
        receipt.id.into(),
        receipt.account_id.into(),
        receipt.instance_id.into(),
        receipt.period.to_string().into(),
        receipt.day.to_string().into(),
        text(&receipt.provider),
        text(&receipt.model),
        text(&receipt.agent),
        text(&receipt.price_version),
        receipt.held_nanodollars.into(),
        receipt.amount_nanodollars.into(),
        receipt.input_tokens.into(),
        receipt.cache_write_tokens.into(),
        receipt.cache_write_long_tokens.into(),
        receipt.cache_read_tokens.into(),
        receipt.output_tokens.into(),
        text(&receipt.basis),
        text(&receipt.outcome),
        text(&receipt.counted),
        text(&receipt.usage),
        receipt.held_at_ms.into(),
        receipt.settled_at_ms.into(),
        receipt.corrects.into(),
        text(&receipt.reason),
        receipt.seq.into(),
        text(&receipt.previous),
        text(&receipt.hash),
        text(&receipt.signature),
        text(&receipt.payer),
        receipt.worth_nanodollars.into(),
    ]
}

impl TryFrom<Model> for Receipt {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            account_id: row.account_id,
            instance_id: row.instance_id,
            period: parse(&row.period)?,
            day: parse(&row.day)?,
            provider: row.provider,
            model: row.model,
            agent: row.agent,
            price_version: row.price_version,
            held_nanodollars: row.held_nanodollars,
            amount_nanodollars: row.amount_nanodollars,
            input_tokens: row.input_tokens,
            cache_write_tokens: row.cache_write_tokens,
            cache_write_long_tokens: row.cache_write_long_tokens,
            cache_read_tokens: row.cache_read_tokens,
            output_tokens: row.output_tokens,
            basis: row.basis,
            outcome: row.outcome,
            counted: row.counted,
            usage: row.usage,
            held_at_ms: row.held_at_ms,
            settled_at_ms: row.settled_at_ms,
            corrects: row.corrects,
            reason: row.reason,
            seq: row.seq,
            previous: row.previous,
            hash: row.hash,
            signature: row.signature,
            payer: row.payer,
            worth_nanodollars: row.worth_nanodollars,
        })
    }
}
