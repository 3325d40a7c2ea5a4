//! What a call costs at other prices than it was charged by. Pure.

use crate::quota::prices::rules::{self, Price, Usage};
use crate::quota::{Payer, Receipt};

/// What other prices say of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rating {
    /// The call costs this, before anything that the operator gave or took by hand.
    Costs(i64),
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
pub fn rated(receipt: &Receipt, own: Option<&Price>, price: Option<&Price>) -> Rating {
    let Receipt { amount_nanodollars: charged, held_nanodollars: held, .. } = *receipt;
    let Ok(usage) = serde_json::from_str::<Usage>(&receipt.counted) else { return Rating::NotCounted };
    if receipt.payer == Payer::OwnKey.as_str() || (charged == 0 && !was_counted(&usage)) {
        return Rating::Free;
    }
    let most = match (receipt.basis.as_str(), own) {
        ("provider", _) => i64::MAX,
        // An estimate never exceeds the hold.
        ("observed", Some(own)) if rules::cost(own, &usage).min(held) == charged => held,
        // The provider did count, and there was no price for what it counted.
        ("held", Some(own))
            if receipt.outcome == "completed" && was_counted(&usage) && !rules::is_priced(own, &usage) =>
        {
            i64::MAX
        }
        _ => return Rating::NotCounted,
    };
    match price {
        Some(price) if rules::is_priced(price, &usage) => Rating::Costs(rules::cost(price, &usage).min(most)),
        _ => Rating::NoPrice,
    }
}

fn was_counted(usage: &Usage) -> bool {
    usage.all_input_tokens() > 0 || usage.output_tokens > 0
}

/// By how much what a call cost has to change: it cost `charged` and `rerated` since, and the operator gave or took
/// `by_hand`, which stays, as far as the call does not cost less than nothing by it.
#[must_use]
pub fn difference(costs: i64, (charged, rerated, by_hand): (i64, i64, i64)) -> i64 {
    let so_far = charged.saturating_add(rerated).saturating_add(by_hand);
    costs.saturating_add(by_hand).max(0).saturating_sub(so_far)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
