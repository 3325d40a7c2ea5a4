//! Calls under a key of their owner's own: nothing of the budget is held or charged, because the provider bills the owner.
//! Each is in the journal and has its receipt like any other, with what it used and what that is worth.
//!
//! Of the limits only that of calls at once holds for them, which keeps the platform's own room. Requests and tokens a
//! minute share out what the platform's keys bear at a provider, and these calls do not touch those.

use serde::{Deserialize, Serialize};

use super::hold::{Held, Hold};
use super::journal::Intent;
use crate::db::{AccountId, HoldId, InstanceId};
use crate::quota::admission::books::Amount;
use crate::quota::admission::refusal::Refusal;
use crate::quota::prices::rules::{self, Basis, Bound, Charge, Price, Provider, Seen, Usage};
use crate::quota::{Quota, lock};

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

    /// What a call that was charged so takes from the account's limits.
    #[must_use]
    pub(in crate::quota) fn spends(self, charge: &Charge) -> Amount {
        let used = charge.usage.all_input_tokens().saturating_add(charge.usage.output_tokens);
        Amount { nanodollars: charge.amount_nanodollars, tokens: if self.is_budget() { used } else { 0 } }
    }
}

/// A call that wants to be made under its owner's own key.
#[derive(Clone, Debug)]
pub struct OwnCall {
    pub account: AccountId,
    pub instance: InstanceId,
    /// As of [`crate::quota::Call`].
    pub agent: String,
    pub provider: Provider,
    /// Also one that the price table does not know.
    pub model: String,
}

impl Quota {
    /// Takes a place for `call` and holds no money. After this returns the intent outlives this process, and the call may be
    /// made.
    ///
    /// # Errors
    /// When as many calls as may be are in flight, or the books cannot be read or written.
    pub async fn admit_under_own_key(&self, call: OwnCall) -> Result<Hold, Refusal> {
        let OwnCall { account: owner, instance, agent, provider, model } = call;
        let book = self.0.prices();
        let price = book.find(&provider, &model);
        let running = self.0.running()?;
        let account = self.0.account(owner).await?;
        let (now, nothing) = (self.0.clock.now(), Amount::default());
        // No await from here on, as in `Quota::admit`.
        let place = lock(&account)
            .admit_under_own_key(&agent, now)
            .map_err(|over| Refusal::of(over, nothing.nanodollars, now))?;
        let intent = Intent {
            id: HoldId(self.0.clock.ordered_uuid()),
            account: owner,
            instance,
            period: place.period.clone(),
            day: place.day.clone(),
            provider: provider.as_str().into(),
            model,
            agent,
            price_version: book.version.clone(),
            bound: Bound::default(),
            held_nanodollars: nothing.nanodollars,
            at_the_dearest: false,
            at: now,
            payer: Payer::OwnKey,
        };
        Hold::promise(Held { intent, place, held: nothing, account, price }, (None, None), &self.0, &running.journal)
    }
}

impl Intent {
    /// What the call is charged now that it is over, and what it is worth where it is charged nothing. `price` is `None` where
    /// no table that is kept knows its model.
    #[must_use]
    pub fn charge(&self, price: Option<&Price>, seen: Seen) -> (Charge, Option<i64>) {
        match (self.payer, price) {
            (Payer::OwnKey, price) => metered(price, seen),
            (Payer::Budget, Some(price)) => (rules::charge(price, &self.bound, seen), None),
            (Payer::Budget, None) => {
                let (amount_nanodollars, usage) = (self.held_nanodollars, Usage::default());
                (Charge { amount_nanodollars, basis: Basis::Held, usage }, None)
            }
        }
    }
}

/// What a call used that is charged nothing, and what that is worth. Nothing was held that an estimate could lean on, so what
/// the provider did not name is not guessed.
fn metered(price: Option<&Price>, seen: Seen) -> (Charge, Option<i64>) {
    let (basis, usage) = match seen {
        Seen::NoCharge => (Basis::Provider, None),
        Seen::Final(usage) => (Basis::Provider, Some(usage)),
        Seen::Part { usage, output_tokens } | Seen::CutOff { usage, output_tokens } => {
            let estimated = |usage: Usage| Usage { output_tokens: usage.output_tokens.max(output_tokens), ..usage };
            (Basis::Observed, usage.map(estimated))
        }
        Seen::Unreadable => (Basis::Observed, None),
    };
    let worth = match (seen, price, usage) {
        (Seen::NoCharge, _, _) => Some(0),
        (_, Some(price), Some(usage)) if rules::is_priced(price, &usage) => Some(rules::cost(price, &usage)),
        _ => None,
    };
    (Charge { amount_nanodollars: 0, basis, usage: usage.unwrap_or_default() }, worth)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::quota::prices::tariffs::{Rates, Tariff};

    /// A nano-dollar for ten thousand tokens in, and for two thousand out.
    fn price() -> Price {
        let rates = Rates { input: 100, cache_write: None, cache_write_long: None, cache_read: None, output: 500 };
        Price {
            max_input_tokens: None,
            max_output_tokens: None,
            long_above_tokens: None,
            standard: Tariff { rates, long: None },
            tiers: BTreeMap::new(),
            us_permille: None,
            web_search_nanodollars: None,
            call_nanodollars: 0,
        }
    }

    #[test]
    fn whatever_becomes_of_a_call_under_an_own_key_it_is_charged_nothing() {
        let usage = Usage { input_tokens: 2_000_000, output_tokens: 1_000_000, ..Usage::default() };
        let price = price();
        for (seen, basis, output_tokens, worth) in [
            (Seen::NoCharge, Basis::Provider, 0, Some(0)),
            (Seen::Final(usage), Basis::Provider, 1_000_000, Some(700)),
            (Seen::Final(Usage { unpriced: true, ..usage }), Basis::Provider, 1_000_000, None),
            (Seen::Part { usage: Some(usage), output_tokens: 2_000_000 }, Basis::Observed, 2_000_000, Some(1200)),
            (Seen::CutOff { usage: Some(usage), output_tokens: 9 }, Basis::Observed, 1_000_000, Some(700)),
            (Seen::CutOff { usage: None, output_tokens: 9 }, Basis::Observed, 0, None),
            (Seen::Unreadable, Basis::Observed, 0, None),
        ] {
            let (charge, said) = metered(Some(&price), seen);
            assert_eq!(
                (charge.amount_nanodollars, charge.basis, charge.usage.output_tokens, said),
                (0, basis, output_tokens, worth),
                "{seen:?}"
            );
            let (unknown, said) = metered(None, seen);
            assert_eq!((unknown, said), (charge, worth.filter(|_| seen == Seen::NoCharge)), "{seen:?}");
        }
    }
}
