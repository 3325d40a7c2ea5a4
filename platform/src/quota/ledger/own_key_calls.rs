//! The charge of a call under its owner's own key, which is zero because the provider bills the owner, and its value by
//! the price table.

use crate::quota::prices::{self, Charge, ChargeBasis, Price};
use berth_ground::money::Nanodollars;
use berth_providers::{Usage, UsageReport};

/// The zero charge with the observed usage, and the value of that usage. Nothing was held that could bound an estimate,
/// so usage that the provider did not report is not estimated.
pub fn charge_and_worth(price: Option<&Price>, seen: UsageReport) -> (Charge, Option<Nanodollars>) {
    let (basis, usage) = match seen {
        UsageReport::NoCharge => (ChargeBasis::Provider, None),
        UsageReport::Final(usage) => (ChargeBasis::Provider, Some(usage)),
        UsageReport::Part { usage, output_tokens } | UsageReport::CutOff { usage, output_tokens } => {
            let estimated = |usage: Usage| Usage { output_tokens: usage.output_tokens.max(output_tokens), ..usage };
            (ChargeBasis::Observed, usage.map(estimated))
        }
        UsageReport::Unreadable => (ChargeBasis::Observed, None),
    };
    let worth = match (seen, price, usage) {
        (UsageReport::NoCharge, _, _) => Some(Nanodollars::ZERO),
        (_, Some(price), Some(usage)) if prices::is_priced(price, &usage) => Some(prices::cost(price, &usage)),
        _ => None,
    };
    (Charge { amount_nanodollars: Nanodollars::ZERO, basis, usage: usage.unwrap_or_default() }, worth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::prices::TokenRates;

    /// A nano-dollar for ten thousand tokens in, and for two thousand out.
    fn price() -> Price {
        Price::flat(TokenRates { input: 100, cache_write: None, cache_write_long: None, cache_read: None, output: 500 })
    }

    #[test]
    fn whatever_becomes_of_a_call_under_an_own_key_it_is_charged_nothing() {
        let usage = Usage { input_tokens: 2_000_000, output_tokens: 1_000_000, ..Usage::default() };
        let price = price();
        for (seen, basis, output_tokens, worth) in [
            (UsageReport::NoCharge, ChargeBasis::Provider, 0, Some(0)),
            (UsageReport::Final(usage), ChargeBasis::Provider, 1_000_000, Some(700)),
            (UsageReport::Final(Usage { unpriced: true, ..usage }), ChargeBasis::Provider, 1_000_000, None),
            (
                UsageReport::Part { usage: Some(usage), output_tokens: 2_000_000 },
                ChargeBasis::Observed,
                2_000_000,
                Some(1200),
            ),
            (UsageReport::CutOff { usage: Some(usage), output_tokens: 9 }, ChargeBasis::Observed, 1_000_000, Some(700)),
            (UsageReport::CutOff { usage: None, output_tokens: 9 }, ChargeBasis::Observed, 0, None),
            (UsageReport::Unreadable, ChargeBasis::Observed, 0, None),
        ] {
            let worth = worth.map(Nanodollars);
            let (charge, said) = charge_and_worth(Some(&price), seen);
            assert_eq!(
                (charge.amount_nanodollars, charge.basis, charge.usage.output_tokens, said),
                (Nanodollars::ZERO, basis, output_tokens, worth),
                "{seen:?}"
            );
            let (unknown, said) = charge_and_worth(None, seen);
            assert_eq!((unknown, said), (charge, worth.filter(|_| seen == UsageReport::NoCharge)), "{seen:?}");
        }
    }
}
