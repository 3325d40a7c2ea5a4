//! Rules of repricing: the cost of a call at other prices than it was charged by. Pure.

use super::super::receipt::Receipt;
use crate::quota::admission::Payer;
use crate::quota::prices::{self, Price};
use berth_ground::money::Nanodollars;
use berth_providers::Usage;

/// The cost of a receipt at other prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepricedCost {
    /// The cost, before corrections by the operator.
    Costs(Nanodollars),
    /// The call stays free: the provider refused it, or its owner pays the provider.
    Free,
    /// The prices do not have the model, its tier, or its searches.
    NoPrice,
    /// The call was not charged by counted usage, but by its hold.
    NotCounted,
}

/// The cost of the call of `receipt` at `price`. `own`: the price by which it was charged, where that is still stored.
///
/// Only counted usage can be repriced. The estimate for a call that broke off is counted usage if its charge is that
/// usage at its own price; a charged part of a hold is not.
#[must_use]
pub fn repriced(receipt: &Receipt, own: Option<&Price>, price: Option<&Price>) -> RepricedCost {
    let Receipt { amount_nanodollars: charged, held_nanodollars: held, .. } = *receipt;
    let Ok(usage) = serde_json::from_str::<Usage>(&receipt.counted) else { return RepricedCost::NotCounted };
    if receipt.payer == Payer::OwnKey.as_str() || (charged == Nanodollars::ZERO && !was_counted(&usage)) {
        return RepricedCost::Free;
    }
    let most = match (receipt.basis.as_str(), own) {
        ("provider", _) => Nanodollars::MAX,
        // An estimate never exceeds the hold.
        ("observed", Some(own)) if prices::cost(own, &usage).min(held) == charged => held,
        // The provider reported usage that had no price, so the hold was charged.
        ("held", Some(own))
            if receipt.outcome == "completed" && was_counted(&usage) && !prices::is_priced(own, &usage) =>
        {
            Nanodollars::MAX
        }
        _ => return RepricedCost::NotCounted,
    };
    match price {
        Some(price) if prices::is_priced(price, &usage) => RepricedCost::Costs(prices::cost(price, &usage).min(most)),
        _ => RepricedCost::NoPrice,
    }
}

fn was_counted(usage: &Usage) -> bool {
    usage.all_input_tokens() > 0 || usage.output_tokens > 0
}

/// The cost of a call so far: the sum of the three.
#[derive(Clone, Copy, Debug)]
pub struct CallAmounts {
    /// The amount of its receipt.
    pub charged: Nanodollars,
    /// The sum of corrections by repricing.
    pub repriced: Nanodollars,
    /// The sum of corrections by the operator. They stay, except that the total is never below zero.
    pub corrected_by_hand: Nanodollars,
}

/// The correction after which a call costs `costs`, before corrections by the operator.
#[must_use]
pub fn difference(costs: Nanodollars, so_far: CallAmounts) -> Nanodollars {
    let CallAmounts { charged, repriced, corrected_by_hand } = so_far;
    let total = charged.saturating_add(repriced).saturating_add(corrected_by_hand);
    costs.saturating_add(corrected_by_hand).max(Nanodollars::ZERO).saturating_sub(total)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
