//! A call in the journal: the intent before it is made, and the settlement after it.

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use serde::{Deserialize, Serialize};

use berth_providers::{Usage, UsageReport};

use super::own_key_calls;
use crate::db::{AccountId, HoldId, InstanceId};
use crate::quota::admission::{BookedCall, Payer};
use crate::quota::calendar::{Day, Month};
use crate::quota::prices::{self, CallOutcome, Charge, ChargeBasis, CostBound, Price};

/// The hold of a call, with everything that recovery needs to settle it in another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub id: HoldId,
    pub account: AccountId,
    pub instance: InstanceId,
    pub period: Month,
    pub day: Day,
    pub provider: String,
    pub model: String,
    pub agent: String,
    pub price_version: String,
    pub bound: CostBound,
    /// The hold on the account's limits: the bound, or nothing where the owner pays the provider.
    pub held_nanodollars: Nanodollars,
    /// The model has no price: the call is held and charged at the dearest price of its provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_the_dearest: bool,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Payer::is_budget")]
    pub payer: Payer,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub id: HoldId,
    pub charge: Charge,
    pub outcome: CallOutcome,
    /// The provider's own usage figures as JSON, or nothing.
    pub usage: String,
    pub at: Timestamp,
    /// The value by the price table of a call under an own key, which is charged nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth_nanodollars: Option<Nanodollars>,
}

impl Intent {
    /// The intent of a call that was admitted.
    #[must_use]
    pub fn of(id: HoldId, call: &BookedCall) -> Self {
        Self {
            id,
            account: call.account,
            instance: call.instance,
            period: call.booking.month,
            day: call.booking.day,
            provider: call.provider.as_str().into(),
            model: call.model.clone(),
            agent: call.agent.clone(),
            price_version: call.price_version.clone(),
            bound: call.bound,
            held_nanodollars: call.held.nanodollars,
            at_the_dearest: call.at_the_dearest,
            at: call.at,
            payer: call.payer,
        }
    }

    /// The charge of the finished call, and for a call under an own key its value. `price` is `None` where no stored
    /// table has the model.
    #[must_use]
    pub fn charge(&self, price: Option<&Price>, seen: UsageReport) -> (Charge, Option<Nanodollars>) {
        match (self.payer, price) {
            (Payer::OwnKey, price) => own_key_calls::charge_and_worth(price, seen),
            (Payer::Budget, Some(price)) => (prices::charge(price, &self.bound, seen), None),
            (Payer::Budget, None) => {
                let (amount_nanodollars, usage) = (self.held_nanodollars, Usage::default());
                (Charge { amount_nanodollars, basis: ChargeBasis::Held, usage }, None)
            }
        }
    }
}
