//! A receipt: the record of a call that is over, or of a correction of one.

use berth_ground::money::Nanodollars;
use serde::{Deserialize, Serialize};

use super::intent::{Intent, Settlement};
use crate::db::{AccountId, HoldId, InstanceId};
use crate::quota::calendar::{Day, Month};
use crate::quota::prices::{Charge, UNKNOWN_MODEL_REASON};

/// A call that is over, or a correction of one. It is written once, and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The id of its hold.
    pub id: HoldId,
    pub account_id: AccountId,
    pub instance_id: InstanceId,
    pub period: Month,
    pub day: Day,
    pub provider: String,
    pub model: String,
    pub agent: String,
    pub price_version: String,
    pub held_nanodollars: Nanodollars,
    pub amount_nanodollars: Nanodollars,
    pub input_tokens: i64,
    pub cache_write_tokens: i64,
    pub cache_write_long_tokens: i64,
    pub cache_read_tokens: i64,
    pub output_tokens: i64,
    pub basis: String,
    pub outcome: String,
    /// The usage that was priced, as JSON, so that it can be priced again.
    pub counted: String,
    /// The provider's own figures as JSON, or nothing.
    pub usage: String,
    pub held_at_ms: i64,
    pub settled_at_ms: i64,
    /// The receipt that this one corrects.
    pub corrects: Option<HoldId>,
    /// The reason of a correction, or of a charge for a model without a price of its own; empty for others.
    pub reason: String,
    /// From 1 in each account; 0 for receipts from before they were chained.
    pub seq: i64,
    /// The digest of the receipt before it.
    pub previous: String,
    pub hash: String,
    /// Set on the newest receipt of each account in a batch; empty on the others.
    pub signature: String,
    /// `budget`, or `own_key`: the owner pays the provider, and the amount is zero.
    pub payer: String,
    /// The value by the price table of a call under an own key, where it is known.
    pub worth_nanodollars: Option<Nanodollars>,
}

/// A row that is no receipt: a day that is none, a text in place of a number. The columns that can be read.
#[derive(Clone, Debug)]
pub struct UnreadableReceipt {
    pub id: Option<HoldId>,
    pub seq: Option<i64>,
    pub hash: Option<String>,
}

impl Receipt {
    /// The receipt of a call, without a place in the chain.
    #[must_use]
    pub fn of_call(intent: &Intent, settlement: &Settlement) -> Self {
        let Charge { amount_nanodollars, basis, usage } = settlement.charge;
        let tokens = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            id: intent.id,
            account_id: intent.account,
            instance_id: intent.instance,
            period: intent.period,
            day: intent.day,
            provider: intent.provider.clone(),
            model: intent.model.clone(),
            agent: intent.agent.clone(),
            price_version: intent.price_version.clone(),
            held_nanodollars: intent.held_nanodollars,
            amount_nanodollars,
            input_tokens: tokens(usage.input_tokens),
            cache_write_tokens: tokens(usage.cache_write_tokens),
            cache_write_long_tokens: tokens(usage.cache_write_long_tokens),
            cache_read_tokens: tokens(usage.cache_read_tokens),
            output_tokens: tokens(usage.output_tokens),
            basis: basis.as_str().into(),
            outcome: settlement.outcome.as_str().into(),
            counted: serde_json::to_string(&usage).expect("usage is always JSON"),
            usage: settlement.usage.clone(),
            held_at_ms: intent.at.0,
            settled_at_ms: settlement.at.0,
            corrects: None,
            reason: if intent.at_the_dearest { UNKNOWN_MODEL_REASON.to_owned() } else { String::new() },
            seq: 0,
            previous: String::new(),
            hash: String::new(),
            signature: String::new(),
            payer: intent.payer.as_str().into(),
            worth_nanodollars: settlement.worth_nanodollars,
        }
    }
}
