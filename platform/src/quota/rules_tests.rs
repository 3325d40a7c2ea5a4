//! The rules as tables and as properties: the hold is never less than the cost.

use proptest::prelude::*;

use super::*;

const RATES: Rates = Rates {
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
        rates: RATES,
        long_context: None,
        us_permille: Some(1100),
    }
}

fn demand() -> Demand {
    Demand {
        provider: Provider::Anthropic,
        model: "claude-sonnet-4-6".into(),
        input: InputBound::Tokens(1000),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(100),
        answers: 1,
        extra_output_tokens: 0,
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
        (bound.input_nanodollars, bound.output_nanodollars)
    };
    assert_eq!(hold(&|_| ()), (3_000_000, 1_500_000));
    assert_eq!(hold(&|d| d.cache_writes = CacheWrites::Short), (3_750_000, 1_500_000));
    assert_eq!(hold(&|d| d.cache_writes = CacheWrites::Long), (6_000_000, 1_500_000));
    assert_eq!(hold(&|d| d.may_be_us = true), (3_300_000, 1_650_000));
    assert_eq!(hold(&|d| d.answers = 3), (3_000_000, 4_500_000));
    assert_eq!(hold(&|d| d.max_output_tokens = None).1, 960_000_000);
    assert_eq!(hold(&|d| d.input = InputBound::WholeModel { at_least: 9 }).0, 3_000_000_000);
    assert_eq!(hold(&|d| d.input = InputBound::WholeModel { at_least: 2_000_000 }).0, 6_000_000_000);
}

#[test]
fn a_body_that_its_bytes_do_not_bound_reaches_the_dear_tier_even_of_a_model_that_is_said_to_take_less() {
    let dear = Rates { output: 2 * RATES.output, ..RATES };
    let long_context = Some(LongContext { above_tokens: 200_000, rates: dear });
    let price = Price { max_input_tokens: Some(200_000), long_context, ..price() };
    let open = Demand { input: InputBound::WholeModel { at_least: 9 }, ..demand() };
    assert_eq!(bound(&price, &open).unwrap().output_nanodollars, 3_000_000);
}

#[test]
fn a_call_cut_off_from_this_side_is_charged_all_the_output_that_it_may_have_hidden() {
    let open = bound(&price(), &Demand { may_hide_output: true, ..demand() }).unwrap();
    let shown = bound(&price(), &demand()).unwrap();
    let started = Usage { input_tokens: 200, output_tokens: 1, ..Usage::default() };
    let cut = |hold, usage| charge(&price(), hold, Seen::Part { usage, output_tokens: 10 }.cut_off());
    assert_eq!(cut(&open, None).amount_nanodollars, open.total_nanodollars());
    assert_eq!(cut(&open, Some(started)).amount_nanodollars, 600_000 + open.output_nanodollars);
    assert_eq!(cut(&open, Some(started)).basis, Basis::Held);
    assert_eq!(cut(&shown, Some(started)).amount_nanodollars, 600_000 + 150_000);
    assert_eq!(charge(&price(), &open, Seen::Final(started).cut_off()).basis, Basis::Provider);
}

#[test]
fn a_tenth_of_a_nanodollar_is_rounded_up() {
    assert_eq!(charge_for(&[(1, 100_000)], 1000), 1);
    assert_eq!(charge_for(&[(0, 100_000)], 1000), 0);
}

#[test]
fn a_call_that_broke_off_is_charged_its_input_and_never_more_than_the_hold() {
    let hold = bound(&price(), &demand()).unwrap();
    let part = |usage, output_tokens| charge(&price(), &hold, Seen::Part { usage, output_tokens }).amount_nanodollars;
    assert_eq!(part(None, 0), hold.input_nanodollars);
    assert_eq!(part(None, 10), hold.input_nanodollars + 150_000);
    assert_eq!(part(None, 1_000_000), hold.total_nanodollars());
    let started = Usage { input_tokens: 200, output_tokens: 1, ..Usage::default() };
    assert_eq!(part(Some(started), 10), 600_000 + 150_000);
    assert_eq!(charge(&price(), &hold, Seen::Unreadable).amount_nanodollars, hold.total_nanodollars());
    assert_eq!(charge(&price(), &hold, Seen::NoCharge).amount_nanodollars, 0);
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
        assert_eq!(dollars(nano), text);
    }
}

prop_compose! {
    fn rates()(input in 1..50_000_000_000_i64, write in 1000..2500_i64, read in 0..1000_i64, output in 1..250_000_000_000_i64,
               has_write: bool, has_long: bool, has_read: bool) -> Rates {
        Rates {
            input,
            cache_write: has_write.then_some(input / 1000 * write),
            cache_write_long: has_long.then_some(input / 1000 * write * 2),
            cache_read: has_read.then_some(input / 1000 * read),
            output,
        }
    }
}

proptest! {
    /// Whatever the provider counts, as long as it keeps to the demand: tokens within the bounds, classes that can apply.
    #[test]
    fn a_hold_is_never_less_than_the_cost(
        base in rates(), long in proptest::option::of((rates(), 0..400_000_u64)), us in proptest::option::of(1000..1500_i64),
        tokens in 0..2_000_000_u64, split in (0..=100_u64, 0..=100_u64, 0..=100_u64), used in 0..=100_u64,
        max_output in 0..200_000_u64, answers in 1..5_u64, writes in 0..3_u8, in_us: bool,
    ) {
        let price = Price {
            long_context: long.map(|(rates, above_tokens)| LongContext { above_tokens, rates }),
            us_permille: us, rates: base, ..price()
        };
        let cache_writes = [CacheWrites::Never, CacheWrites::Short, CacheWrites::Long][usize::from(writes)];
        let demand = Demand {
            input: InputBound::Tokens(tokens), max_output_tokens: Some(max_output), answers, cache_writes,
            may_be_us: in_us, ..demand()
        };
        let counted = tokens * used / 100;
        let read = counted * split.0 / 100;
        let write = if cache_writes == CacheWrites::Never { 0 } else { (counted - read) * split.1 / 100 };
        let write_long = if cache_writes == CacheWrites::Long { (counted - read - write) * split.2 / 100 } else { 0 };
        let usage = Usage {
            input_tokens: counted - read - write - write_long,
            cache_write_tokens: write, cache_write_long_tokens: write_long, cache_read_tokens: read,
            output_tokens: max_output * answers * used / 100, in_us, unpriced: false,
        };
        let hold = bound(&price, &demand).unwrap();
        prop_assert!(hold.total_nanodollars() >= cost(&price, &usage));
        let part = Seen::Part { usage: Some(usage), output_tokens: 7 };
        for seen in [Seen::Final(usage), part, part.cut_off(), Seen::Unreadable] {
            prop_assert!(charge(&price, &hold, seen).amount_nanodollars <= hold.total_nanodollars());
        }
    }
}
