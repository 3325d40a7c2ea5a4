//! Rating again, as a table and as properties.

use berth_ground::money::Nanodollars;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::db::{AccountId, HoldId, InstanceId};
use crate::quota::prices::{CallOutcome, Charge, ChargeBasis, CostBound, Tariff, TokenRates, charge};
use berth_providers::{ServiceTier, UsageReport};

fn price(rate: i64) -> Price {
    let rates =
        TokenRates { input: rate, cache_write: None, cache_write_long: None, cache_read: None, output: 5 * rate };
    Price {
        max_input_tokens: Some(1_000_000),
        max_output_tokens: Some(64_000),
        long_above_tokens: Some(200_000),
        standard: Tariff { long: Some(TokenRates { input: 2 * rate, ..rates.clone() }), rates },
        tiers: std::collections::BTreeMap::new(),
        us_permille: Some(1100),
        web_search_nanodollars: None,
        call_nanodollars: Nanodollars(7),
    }
}

fn receipt(charged: Charge, held_nanodollars: Nanodollars, outcome: CallOutcome) -> Receipt {
    Receipt {
        id: HoldId(Uuid::from_u128(1)),
        account_id: AccountId(Uuid::from_u128(2)),
        instance_id: InstanceId(Uuid::from_u128(3)),
        period: "2026-11".parse().unwrap(),
        day: "2026-11-15".parse().unwrap(),
        provider: "anthropic".into(),
        model: "a".into(),
        agent: String::new(),
        price_version: "1".into(),
        held_nanodollars,
        amount_nanodollars: charged.amount_nanodollars,
        input_tokens: 0,
        cache_write_tokens: 0,
        cache_write_long_tokens: 0,
        cache_read_tokens: 0,
        output_tokens: 0,
        basis: charged.basis.as_str().into(),
        outcome: outcome.as_str().into(),
        counted: serde_json::to_string(&charged.usage).unwrap(),
        usage: String::new(),
        held_at_ms: 0,
        settled_at_ms: 0,
        corrects: None,
        reason: String::new(),
        seq: 1,
        previous: String::new(),
        hash: String::new(),
        signature: String::new(),
        payer: "budget".into(),
        worth_nanodollars: None,
    }
}

fn hold(price: &Price) -> CostBound {
    CostBound {
        input_tokens: 1000,
        output_tokens: 100,
        input_nanodollars: Nanodollars(2 * price.standard.rates.input / 1000),
        output_nanodollars: Nanodollars(price.standard.rates.output / 10_000),
        other_nanodollars: Nanodollars(7),
        reads_again: false,
        may_hide_output: true,
        is_counted: false,
    }
}

const USED: Usage = Usage {
    input_tokens: 900,
    cache_write_tokens: 0,
    cache_write_long_tokens: 0,
    cache_read_tokens: 0,
    output_tokens: 90,
    web_searches: 0,
    tier: ServiceTier::Standard,
    in_us: false,
    unpriced: false,
};

#[test]
fn only_what_was_counted_is_counted_again() {
    let (old, new) = (price(1_000_000_000), price(500_000_000));
    let half = prices::cost(&new, &USED);
    let in_a_tier = Usage { tier: ServiceTier::Flex, ..USED };
    let with_tier = Price { tiers: [(ServiceTier::Flex, new.standard.clone())].into(), ..new.clone() };
    let part = |usage| UsageReport::Part { usage, output_tokens: 50 };
    for (what, seen, outcome, at, want) in [
        ("a count", UsageReport::Final(USED), CallOutcome::Completed, Some(&new), RepricedCost::Costs(half)),
        ("of an unknown model", UsageReport::Final(USED), CallOutcome::Completed, None, RepricedCost::NoPrice),
        ("refused by the provider", UsageReport::NoCharge, CallOutcome::Refused, Some(&new), RepricedCost::Free),
        ("broken off, counted", part(Some(USED)), CallOutcome::UpstreamBroke, Some(&new), RepricedCost::Costs(half)),
        ("broken off, bounded", part(None), CallOutcome::UpstreamBroke, Some(&new), RepricedCost::NotCounted),
        ("cut off", part(Some(USED)).cut_off(), CallOutcome::ClientGone, Some(&new), RepricedCost::NotCounted),
        ("unreadable", UsageReport::Unreadable, CallOutcome::Completed, Some(&new), RepricedCost::NotCounted),
        (
            "in a tier without a price",
            UsageReport::Final(in_a_tier),
            CallOutcome::Completed,
            Some(&with_tier),
            RepricedCost::Costs(half),
        ),
        (
            "in one without any",
            UsageReport::Final(in_a_tier),
            CallOutcome::Completed,
            Some(&new),
            RepricedCost::NoPrice,
        ),
    ] {
        let hold = hold(&old);
        let receipt = receipt(charge(&old, &hold, seen), hold.total_nanodollars(), outcome);
        assert_eq!(repriced(&receipt, Some(&old), at), want, "{what}");
    }
    let at_no_price = Charge { amount_nanodollars: Nanodollars::ZERO, basis: ChargeBasis::Provider, usage: USED };
    let free = receipt(at_no_price, Nanodollars::ZERO, CallOutcome::Completed);
    assert_eq!(repriced(&free, None, Some(&new)), RepricedCost::Costs(half), "what was priced at nothing by mistake");
    let own_key = Receipt { payer: "own_key".into(), ..free };
    assert_eq!(repriced(&own_key, None, Some(&new)), RepricedCost::Free);
    let nobody_knows = Charge { amount_nanodollars: Nanodollars(5), basis: ChargeBasis::Observed, usage: USED };
    let recovered = receipt(nobody_knows, Nanodollars(9), CallOutcome::Recovered);
    assert_eq!(repriced(&recovered, None, Some(&new)), RepricedCost::NotCounted);
}

#[test]
fn what_was_given_by_hand_stays_and_nothing_costs_less_than_nothing() {
    for (costs, so_far, want) in [
        (100, (100, 0, 0), 0),
        (60, (100, 0, 0), -40),
        (60, (100, -40, 0), 0),
        (100, (100, -40, 0), 40),
        (60, (100, 0, -30), -40),
        (20, (100, 0, -30), -70),
        (20, (100, -70, -30), 0),
        (100, (100, 0, 25), 0),
    ] {
        let (charged, repriced, by_hand) = so_far;
        let [charged, repriced, corrected_by_hand] = [charged, repriced, by_hand].map(Nanodollars);
        let amounts = CallAmounts { charged, repriced, corrected_by_hand };
        assert_eq!(difference(Nanodollars(costs), amounts), Nanodollars(want), "{costs} {so_far:?}");
    }
}

proptest! {
    /// Whatever a call used and however it ended, the version that it was charged by changes nothing about it.
    #[test]
    fn rating_again_at_the_same_prices_changes_nothing(
        input in 0_u64..400_000, output in 0_u64..70_000, estimate in 0_u64..70_000, rate in 0_i64..20_000_000_000,
        searches in 0_u64..3, flex in any::<bool>(), in_us in any::<bool>(), unpriced in any::<bool>(),
        how in 0_usize..7, by_hand in -5_i64..5,
    ) {
        let price = price(rate);
        let tier = if flex { ServiceTier::Flex } else { ServiceTier::Standard };
        let usage = Usage { input_tokens: input, output_tokens: output, web_searches: searches, tier, in_us, unpriced, ..USED };
        let part = UsageReport::Part { usage: Some(usage), output_tokens: estimate };
        let nothing = UsageReport::Part { usage: None, output_tokens: estimate };
        let (seen, outcome) = [
            (UsageReport::NoCharge, CallOutcome::Refused),
            (UsageReport::Final(usage), CallOutcome::Completed),
            (part, CallOutcome::UpstreamBroke),
            (nothing, CallOutcome::UpstreamBroke),
            (part.cut_off(), CallOutcome::ClientGone),
            (nothing.cut_off(), CallOutcome::Recovered),
            (UsageReport::Unreadable, CallOutcome::Completed),
        ][how];
        let hold = hold(&price);
        let receipt = receipt(charge(&price, &hold, seen), hold.total_nanodollars(), outcome);
        if let RepricedCost::Costs(costs) = repriced(&receipt, Some(&price), Some(&price)) {
            prop_assert_eq!(costs, receipt.amount_nanodollars);
            let corrected_by_hand = Nanodollars(by_hand).max(-costs);
            let so_far = CallAmounts { charged: costs, repriced: Nanodollars::ZERO, corrected_by_hand };
            prop_assert_eq!(difference(costs, so_far), Nanodollars::ZERO);
        }
    }
}
