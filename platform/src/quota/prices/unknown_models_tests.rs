//! The dearest of a provider, as properties: nothing of that provider costs more.

use berth_ground::money::Nanodollars;
use proptest::prelude::*;

use super::*;
use crate::quota::prices::rules::{bound, cost};
use berth_providers::{CacheWrites, Demand, InputBound, Provider, TierChoice, Usage};

fn rates() -> impl Strategy<Value = TokenRates> {
    let one = || 0_i64..20_000_000_000;
    let some = || prop::option::of(one());
    (one(), some(), some(), some(), one()).prop_map(|(input, cache_write, cache_write_long, cache_read, output)| {
        TokenRates { input, cache_write, cache_write_long, cache_read, output }
    })
}

fn tariff() -> impl Strategy<Value = Tariff> {
    (rates(), prop::option::of(rates())).prop_map(|(rates, long)| Tariff { rates, long })
}

fn price() -> impl Strategy<Value = Price> {
    let size = || prop::option::of(1_u64..1_000_000);
    let tiers = prop::collection::btree_map(
        prop::sample::select(vec![ServiceTier::Flex, ServiceTier::Priority]),
        tariff(),
        0..3,
    );
    let factors = (prop::option::of(1000_i64..2000), prop::option::of(0_i64..1_000_000_000), 0_i64..1_000_000);
    (size(), size(), size(), tariff(), tiers, factors).prop_map(
        |(max_input_tokens, max_output_tokens, long_above_tokens, standard, tiers, (us_permille, search, call))| {
            Price {
                max_input_tokens,
                max_output_tokens,
                long_above_tokens,
                standard,
                tiers,
                us_permille,
                web_search_nanodollars: search.map(Nanodollars),
                call_nanodollars: Nanodollars(call),
            }
        },
    )
}

#[test]
fn without_a_price_there_is_no_dearest() {
    assert_eq!(of(std::iter::empty()), None);
}

proptest! {
    #[test]
    fn no_model_of_the_provider_is_held_or_charged_for_more(
        prices in prop::collection::vec(price(), 1..6),
        tokens in (0_u64..2_000_000, 0_u64..2_000_000, 0_u64..2_000_000, 0_u64..2_000_000, 0_u64..200_000),
        searches in 0_u64..4, in_us in any::<bool>(), whole_model in any::<bool>(),
        tier in prop::sample::select(vec![ServiceTier::Standard, ServiceTier::Flex, ServiceTier::Priority, ServiceTier::Fast]),
        writes in prop::sample::select(vec![CacheWrites::Never, CacheWrites::Short, CacheWrites::Long]),
    ) {
        let dearest = of(prices.iter()).unwrap();
        let (input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens) = tokens;
        let usage = Usage {
            input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens,
            web_searches: searches, tier, in_us, unpriced: false,
        };
        let demand = Demand {
            provider: Provider::OPENAI,
            model: "of tomorrow".into(),
            service: TierChoice::Auto(tier),
            input: if whole_model { InputBound::WholeModel { at_least: 9 } } else { InputBound::Tokens(input_tokens) },
            cache_writes: writes,
            max_output_tokens: (!whole_model).then_some(output_tokens),
            answers: 2,
            extra_output_tokens: 3,
            web_searches: searches,
            may_be_us: in_us,
            may_hide_output: false,
        };
        for price in &prices {
            prop_assert!(cost(price, &usage) <= cost(&dearest, &usage), "{:?} {:?}", price, dearest);
            if let Ok(its) = bound(price, &demand) {
                let most = bound(&dearest, &demand).unwrap();
                prop_assert!(its.total_nanodollars() <= most.total_nanodollars(), "{:?} {:?}", price, dearest);
                prop_assert!(its.input_tokens <= most.input_tokens && its.output_tokens <= most.output_tokens);
            }
        }
    }
}
