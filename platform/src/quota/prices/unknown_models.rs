//! The price of a model that the price table does not have: the dearest of its provider's prices in every respect.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::tariffs::{Price, Tariff, TokenRates};
use berth_providers::ServiceTier;

/// The reason in the receipt of a call that was held and charged at this price.
pub const REASON: &str = "the price table does not know the model: charged at the dearest of its provider's prices";

/// A price that is at least each of `prices` in every class of token, tier and size; `None` when there is none.
///
/// It has no threshold between short and long input: every call costs the dearest long rates.
#[must_use]
pub fn of<'a>(prices: impl Iterator<Item = &'a Price> + Clone) -> Option<Price> {
    prices.clone().next()?;
    let tiers: BTreeSet<ServiceTier> = prices.clone().flat_map(|price| price.tiers.keys().copied()).collect();
    Some(Price {
        max_input_tokens: prices.clone().filter_map(|price| price.max_input_tokens).max(),
        max_output_tokens: prices.clone().filter_map(|price| price.max_output_tokens).max(),
        long_above_tokens: None,
        standard: dearest(prices.clone().flat_map(|price| both(&price.standard))),
        tiers: tiers
            .into_iter()
            .map(|tier| (tier, dearest(prices.clone().flat_map(|price| in_tier(price, tier)))))
            .collect::<BTreeMap<_, _>>(),
        us_permille: prices.clone().map(|price| price.us_permille.unwrap_or(1000)).max(),
        web_search_nanodollars: prices.clone().filter_map(|price| price.web_search_nanodollars).max(),
        call_nanodollars: prices.map(|price| price.call_nanodollars).max().unwrap_or_default(),
    })
}

/// Rates for short and for long input.
fn both(tariff: &Tariff) -> Vec<&TokenRates> {
    std::iter::once(&tariff.rates).chain(&tariff.long).collect()
}

/// The rates that a token of a model can have in a tier: all of the model's, where it is not offered in that tier.
fn in_tier(price: &Price, tier: ServiceTier) -> Vec<&TokenRates> {
    match price.tariff(tier) {
        Some(tariff) => both(tariff),
        None => price.tiers.values().chain([&price.standard]).flat_map(both).collect(),
    }
}

fn dearest<'a>(rates: impl Iterator<Item = &'a TokenRates> + Clone) -> Tariff {
    let most = |rate: fn(&TokenRates) -> i64| rates.clone().map(rate).max().unwrap_or(i64::MAX);
    let rates = TokenRates {
        input: most(|rates| rates.input),
        cache_write: Some(most(TokenRates::short_write)),
        cache_write_long: Some(most(TokenRates::long_write)),
        cache_read: Some(most(TokenRates::read)),
        output: most(|rates| rates.output),
    };
    Tariff { rates, long: None }
}

#[cfg(test)]
#[path = "unknown_models_tests.rs"]
mod tests;
