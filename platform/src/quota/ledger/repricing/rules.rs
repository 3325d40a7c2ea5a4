//! What a call costs at other prices than it was charged by. Pure.

use super::super::receipt::Receipt;
use crate::money::Nanodollars;
use crate::quota::admission::Payer;
use crate::quota::prices::{self, Price};
use berth_providers::Usage;

/// What other prices say of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepricedCost {
    /// The call costs this, before anything that the operator gave or took by hand.
    Costs(Nanodollars),
    /// It cost nothing: the provider refused it, or its owner pays the provider. That stays so.
    Free,
    /// They do not say what the model costs, or its tier, or its searches.
    NoPrice,
    /// It was not charged by a count of what it used, but by what was held for it.
    NotCounted,
}

/// What the call of `receipt` costs at `price`. `own`: what it was charged by, where that is still known.
///
/// Only what was counted can be counted again. An estimate of a call that broke off is one such count, as long as its
/// charge was that count at its prices; a part of a hold is none.
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
        // The provider did count, and there was no price for what it counted.
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

/// What a call cost so far: the sum of the three.
#[derive(Clone, Copy, Debug)]
pub struct CallAmounts {
    /// By its receipt.
    pub charged: Nanodollars,
    /// By corrections that other prices made.
    pub repriced: Nanodollars,
    /// By corrections of the operator. They stay, as far as the call does not cost less than nothing by them.
    pub corrected_by_hand: Nanodollars,
}

/// By how much what a call cost has to change so that it costs `costs`, before what was corrected by hand.
#[must_use]
pub fn difference(costs: Nanodollars, so_far: CallAmounts) -> Nanodollars {
    let CallAmounts { charged, repriced, corrected_by_hand } = so_far;
    let total = charged.saturating_add(repriced).saturating_add(corrected_by_hand);
    costs.saturating_add(corrected_by_hand).max(Nanodollars::ZERO).saturating_sub(total)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
