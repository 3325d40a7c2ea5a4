//! The rules as tables and as properties: the hold is never less than the cost.

use berth_ground::money::Nanodollars;
use berth_providers::{CacheWrites, Provider};
use proptest::prelude::*;

use super::super::tariffs::Tariff;
use super::*;

const RATES: TokenRates = TokenRates {
    input: 3_000_000_000,
    cache_write: Some(3_750_000_000),
    cache_write_long: Some(6_000_000_000),
    cache_read: Some(300_000_000),
    output: 15_000_000_000,
};

fn price() -> Price {
    Price {
        max_input_tokens: Some(1_000_000),
        max_output_tokens: Some(64_000),
        long_above_tokens: None,
        standard: Tariff { rates: RATES, long: None },
        tiers: [(ServiceTier::Priority, tariff(2)), (ServiceTier::Ultrafast, tariff(6))].into(),
        us_permille: Some(1100),
        web_search_nanodollars: Some(Nanodollars(10_000_000)),
        call_nanodollars: Nanodollars::ZERO,
    }
}

/// So many times as dear as the standard one.
fn tariff(times: i64) -> Tariff {
    let rates = TokenRates {
        input: times * RATES.input,
        cache_write: RATES.cache_write.map(|rate| times * rate),
        cache_write_long: RATES.cache_write_long.map(|rate| times * rate),
        cache_read: RATES.cache_read.map(|rate| times * rate),
        output: times * RATES.output,
    };
    Tariff { rates, long: None }
}

fn demand() -> Demand {
    Demand {
        provider: Provider::ANTHROPIC,
        model: "claude-sonnet-4-6".into(),
        service: TierChoice::Auto(ServiceTier::Standard),
        input: InputBound::Tokens(1000),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(100),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: 0,
        may_be_us: false,
        may_hide_output: false,
    }
}

#[test]
fn holds_by_hand() {
    let hold = |change: &dyn Fn(&mut Demand)| {
        let mut demand = demand();
        change(&mut demand);
        let bound = bound(&price(), &demand).unwrap();
        (bound.input_nanodollars.0, bound.output_nanodollars.0)
    };
    assert_eq!(hold(&|_| ()), (3_000_000, 1_500_000));
    assert_eq!(hold(&|d| d.cache_writes = CacheWrites::Short), (3_750_000, 1_500_000));
    assert_eq!(hold(&|d| d.cache_writes = CacheWrites::Long), (6_000_000, 1_500_000));
    assert_eq!(hold(&|d| d.may_be_us = true), (3_300_000, 1_650_000));
    assert_eq!(hold(&|d| d.service = TierChoice::Named(ServiceTier::Priority)), (6_000_000, 3_000_000));
    assert_eq!(hold(&|d| d.service = TierChoice::Auto(ServiceTier::Ultrafast)), (18_000_000, 9_000_000));
    assert_eq!(
        hold(&|d| d.service = TierChoice::Auto(ServiceTier::Flex)),
        (3_000_000, 1_500_000),
        "it has no such tier"
    );
    assert_eq!(hold(&|d| d.web_searches = 2), (9_000_000, 4_500_000), "all is read three times");
    assert_eq!(hold(&|d| d.answers = 3), (3_000_000, 4_500_000));
    assert_eq!(hold(&|d| d.max_output_tokens = None).1, 960_000_000);
    assert_eq!(hold(&|d| d.input = InputBound::WholeModel { at_least: 9 }).0, 3_000_000_000);
    assert_eq!(hold(&|d| d.input = InputBound::WholeModel { at_least: 2_000_000 }).0, 6_000_000_000);
}

#[test]
fn a_body_that_its_bytes_do_not_bound_reaches_the_dear_tier_even_of_a_model_that_is_said_to_take_less() {
    let long = Some(TokenRates { output: 2 * RATES.output, ..RATES });
    let standard = Tariff { rates: RATES, long };
    let price = Price { max_input_tokens: Some(200_000), long_above_tokens: Some(200_000), standard, ..price() };
    let open = Demand { input: InputBound::WholeModel { at_least: 9 }, ..demand() };
    assert_eq!(bound(&price, &open).unwrap().output_nanodollars, Nanodollars(3_000_000));
}

#[test]
fn searches_are_held_one_by_one_and_charged_as_many_as_there_were() {
    let searching = Demand { web_searches: 3, ..demand() };
    let hold = bound(&price(), &searching).unwrap();
    assert_eq!(hold.other_nanodollars, Nanodollars(30_000_000));
    let used = Usage { input_tokens: 1000, web_searches: 2, ..Usage::default() };
    let charged = charge(&price(), &hold, UsageReport::Final(used));
    assert_eq!((charged.amount_nanodollars.0, charged.basis), (3_000_000 + 20_000_000, ChargeBasis::Provider));
    // Who leaves before the figures may have let the model read any number of pages.
    let cut = UsageReport::Part { usage: Some(used), output_tokens: 1 }.cut_off();
    assert_eq!(charge(&price(), &hold, cut).amount_nanodollars, hold.total_nanodollars());
}

#[test]
fn what_has_no_price_cannot_be_bounded_by_name() {
    let bound_of = |price: Price, change: fn(&mut Demand)| {
        let mut demand = demand();
        change(&mut demand);
        bound(&price, &demand).unwrap_err()
    };
    let silent = Price { max_input_tokens: None, max_output_tokens: None, web_search_nanodollars: None, ..price() };
    assert_eq!(bound_of(silent.clone(), |d| d.max_output_tokens = None), UnboundedCost::Size);
    assert_eq!(bound_of(silent.clone(), |d| d.input = InputBound::WholeModel { at_least: 1 }), UnboundedCost::Size);
    assert_eq!(bound_of(silent, |d| d.web_searches = 1), UnboundedCost::WebSearch);
    assert_eq!(
        bound_of(price(), |d| d.service = TierChoice::Named(ServiceTier::Fast)),
        UnboundedCost::Tier(ServiceTier::Fast)
    );
}

#[test]
fn a_call_is_charged_in_the_tier_in_which_it_was_served_and_never_for_less_than_the_hold_in_an_unknown_one() {
    let hold = bound(&price(), &Demand { service: TierChoice::Named(ServiceTier::Priority), ..demand() }).unwrap();
    let served =
        |tier| charge(&price(), &hold, UsageReport::Final(Usage { output_tokens: 10, tier, ..Usage::default() }));
    assert_eq!(served(ServiceTier::Priority).amount_nanodollars, Nanodollars(300_000));
    assert_eq!(served(ServiceTier::Standard).amount_nanodollars, Nanodollars(150_000));
    assert_eq!(served(ServiceTier::Fast).amount_nanodollars, hold.total_nanodollars());
    assert_eq!(served(ServiceTier::Fast).basis, ChargeBasis::Held);
}

#[test]
fn what_was_used_is_read_back_as_it_was_written_and_from_before_it_had_every_field() {
    let usage = Usage { input_tokens: 3, web_searches: 1, tier: ServiceTier::Flex, in_us: true, ..Usage::default() };
    let text = serde_json::to_string(&usage).unwrap();
    assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage, "{text}");
    let early: Usage = serde_json::from_str(r#"{"input_tokens":3,"output_tokens":4}"#).unwrap();
    assert_eq!(early, Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() });
}

#[test]
fn a_call_cut_off_from_this_side_is_charged_all_the_output_that_it_may_have_hidden() {
    let open = bound(&price(), &Demand { may_hide_output: true, ..demand() }).unwrap();
    let shown = bound(&price(), &demand()).unwrap();
    let started = Usage { input_tokens: 200, output_tokens: 1, ..Usage::default() };
    let cut = |hold, usage| charge(&price(), hold, UsageReport::Part { usage, output_tokens: 10 }.cut_off());
    assert_eq!(cut(&open, None).amount_nanodollars, open.total_nanodollars());
    assert_eq!(cut(&open, Some(started)).amount_nanodollars.0, 600_000 + open.output_nanodollars.0);
    assert_eq!(cut(&open, Some(started)).basis, ChargeBasis::Held);
    assert_eq!(cut(&shown, Some(started)).amount_nanodollars, Nanodollars(600_000 + 150_000));
    assert_eq!(charge(&price(), &open, UsageReport::Final(started).cut_off()).basis, ChargeBasis::Provider);
}

#[test]
fn a_tenth_of_a_nanodollar_is_rounded_up() {
    assert_eq!(charge_for(&[(1, 100_000)], 1000), Nanodollars(1));
    assert_eq!(charge_for(&[(0, 100_000)], 1000), Nanodollars::ZERO);
}

#[test]
fn a_call_that_broke_off_is_charged_its_input_and_never_more_than_the_hold() {
    let hold = bound(&price(), &demand()).unwrap();
    let part =
        |usage, output_tokens| charge(&price(), &hold, UsageReport::Part { usage, output_tokens }).amount_nanodollars;
    assert_eq!(part(None, 0), hold.input_nanodollars);
    assert_eq!(part(None, 10), Nanodollars(hold.input_nanodollars.0 + 150_000));
    assert_eq!(part(None, 1_000_000), hold.total_nanodollars());
    let started = Usage { input_tokens: 200, output_tokens: 1, ..Usage::default() };
    assert_eq!(part(Some(started), 10), Nanodollars(600_000 + 150_000));
    assert_eq!(charge(&price(), &hold, UsageReport::Unreadable).amount_nanodollars, hold.total_nanodollars());
    assert_eq!(charge(&price(), &hold, UsageReport::NoCharge).amount_nanodollars, Nanodollars::ZERO);
}

#[test]
fn money_is_said_exactly_and_never_as_nothing() {
    for (nano, text) in [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (31_000, "$0.000031"),
        (5_000_000_000, "$5.00"),
        (1_500_000_000, "$1.50"),
        (1_234_567_890, "$1.23456789"),
        (-20_000_000, "-$0.02"),
        (i64::MIN, "-$9223372036.854775808"),
    ] {
        assert_eq!(dollars(Nanodollars(nano)), text);
    }
}

prop_compose! {
    fn rates()(input in 1..50_000_000_000_i64, write in 1000..2500_i64, read in 0..1000_i64, output in 1..250_000_000_000_i64,
               has_write: bool, has_long: bool, has_read: bool) -> TokenRates {
        TokenRates {
            input,
            cache_write: has_write.then_some(input / 1000 * write),
            cache_write_long: has_long.then_some(input / 1000 * write * 2),
            cache_read: has_read.then_some(input / 1000 * read),
            output,
        }
    }
}

prop_compose! {
    pub fn prices()(standard in rates(), long in proptest::option::of((rates(), 0..400_000_u64)), us in proptest::option::of(1000..1500_i64),
                tiers in proptest::collection::vec((rates(), rates()), 4), offered in 0..16_u8, search in proptest::option::of(0..50_000_000_i64), per_call in 0..50_000_000_i64) -> Price {
        let tier = |number: usize, tier: ServiceTier| {
            let (rates, dear) = tiers[number].clone();
            (offered & (1 << number) > 0).then(|| (tier, Tariff { rates, long: long.as_ref().map(|_| dear) }))
        };
        Price {
            max_input_tokens: Some(1_000_000),
            max_output_tokens: Some(64_000),
            tiers: [tier(0, ServiceTier::Flex), tier(1, ServiceTier::Priority), tier(2, ServiceTier::Fast), tier(3, ServiceTier::Ultrafast)].into_iter().flatten().collect(),
            long_above_tokens: long.as_ref().map(|(_, above)| *above),
            standard: Tariff { rates: standard, long: long.as_ref().map(|(rates, _)| rates.clone()) },
            us_permille: us,
            web_search_nanodollars: search.map(Nanodollars),
            call_nanodollars: Nanodollars(per_call),
        }
    }
}

prop_compose! {
    pub fn demands()(tokens in 0..2_000_000_u64, input in 0..3_usize, max_output in proptest::option::of(0..200_000_u64), answers in 1..5_u64,
                 extra in 0..1000_u64, searches in 0..4_u64, writes in 0..3_usize, may_be_us: bool, named: bool, tier in 0..5_usize) -> Demand {
        let tier = [ServiceTier::Standard, ServiceTier::Flex, ServiceTier::Priority, ServiceTier::Fast, ServiceTier::Ultrafast][tier];
        Demand {
            service: if named { TierChoice::Named(tier) } else { TierChoice::Auto(tier) },
            input: [InputBound::WholeModel { at_least: tokens }, InputBound::Tokens(tokens), InputBound::Counted(tokens)][input],
            cache_writes: [CacheWrites::Never, CacheWrites::Short, CacheWrites::Long][writes],
            max_output_tokens: max_output,
            answers, extra_output_tokens: extra, web_searches: searches, may_be_us,
            ..demand()
        }
    }
}

proptest! {
    /// Whatever the provider counts, as long as it keeps to the demand: tokens within the bounds, classes and tiers
    /// that can apply, no more searches than were allowed.
    #[test]
    fn a_hold_is_never_less_than_the_cost(
        price in prices(), demand in demands(), split in (0..=100_u64, 0..=100_u64, 0..=100_u64), used in (0..=100_u64, 0..=100_u64),
        searched in 0..4_u64, in_us: bool, in_standard: bool,
    ) {
        let Ok(hold) = bound(&price, &demand) else {
            let unpriced = matches!(demand.service, TierChoice::Named(tier) if price.tariff(tier).is_none());
            prop_assert!(unpriced || (demand.web_searches > 0 && price.web_search_nanodollars.is_none()));
            return Ok(());
        };
        let (TierChoice::Auto(tier) | TierChoice::Named(tier)) = demand.service;
        let counted = hold.input_tokens * used.0 / 100;
        let read = counted * split.0 / 100;
        let write = if demand.cache_writes == CacheWrites::Never { 0 } else { (counted - read) * split.1 / 100 };
        let write_long = if demand.cache_writes == CacheWrites::Long { (counted - read - write) * split.2 / 100 } else { 0 };
        let usage = Usage {
            input_tokens: counted - read - write - write_long,
            cache_write_tokens: write, cache_write_long_tokens: write_long, cache_read_tokens: read,
            output_tokens: hold.output_tokens * used.1 / 100,
            web_searches: searched.min(demand.web_searches),
            tier: if in_standard || price.tariff(tier).is_none() { ServiceTier::Standard } else { tier },
            in_us: in_us && demand.may_be_us, unpriced: false,
        };
        prop_assert!(hold.total_nanodollars() >= cost(&price, &usage));
        prop_assert_eq!(charge(&price, &hold, UsageReport::Final(usage)).basis, ChargeBasis::Provider);
        let part = UsageReport::Part { usage: Some(usage), output_tokens: 7 };
        let silent = UsageReport::Part { usage: None, output_tokens: 7 };
        for seen in [UsageReport::Final(usage), part, part.cut_off(), silent, silent.cut_off(), UsageReport::Unreadable] {
            prop_assert!(charge(&price, &hold, seen).amount_nanodollars <= hold.total_nanodollars());
        }
    }
}
