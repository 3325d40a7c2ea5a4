//! The payer of a call, and what the call takes from its account's limits accordingly.

use serde::{Deserialize, Serialize};

use super::books::CallAmount;
use crate::quota::prices::Charge;

/// Who pays for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payer {
    /// The account's allowances and credit.
    #[default]
    Budget,
    /// The owner, at the provider.
    OwnKey,
}

impl Payer {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::OwnKey => "own_key",
        }
    }

    #[must_use]
    pub fn is_budget(&self) -> bool {
        *self == Self::Budget
    }

    /// What a call with this charge takes from the account's limits.
    pub(in crate::quota) fn spends(self, charge: &Charge) -> CallAmount {
        let used = charge.usage.all_input_tokens().saturating_add(charge.usage.output_tokens);
        CallAmount { nanodollars: charge.amount_nanodollars, tokens: if self.is_budget() { used } else { 0 } }
    }
}
