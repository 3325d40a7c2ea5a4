//! Binary search for the longest answer with which a call fits into the remaining budget. Pure.

use super::books::CallAmount;
use crate::quota::prices::{self, CostBound, Price};
use berth_providers::Demand;

/// The longest answer, in tokens, with which `demand` needs at most `most`. `None` where it fits unshortened, or not
/// even with `least` tokens.
pub fn shortened(price: &Price, demand: &Demand, least: u64, most: CallAmount) -> Option<(u64, CostBound)> {
    let asked = demand.max_output_tokens.or(price.max_output_tokens).filter(|asked| *asked > least)?;
    let mut demand = demand.clone();
    // Searched over the bound itself, which grows with the answer. An inverse formula would have to round exactly as
    // the bound does, or a shortened call would be refused by a nano-dollar.
    let mut fitting = |tokens| {
        demand.max_output_tokens = Some(tokens);
        prices::bound(price, &demand).ok().filter(|bound| CallAmount::of(bound).fits_into(most))
    };
    if fitting(asked).is_some() {
        return None;
    }
    let (mut longest, mut bound, mut too_long) = (least, fitting(least)?, asked);
    while too_long - longest > 1 {
        let between = longest + (too_long - longest) / 2;
        match fitting(between) {
            Some(fits) => (longest, bound) = (between, fits),
            None => too_long = between,
        }
    }
    Some((longest, bound))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use berth_ground::money::Nanodollars;

    use super::*;
    use crate::quota::prices::rules_tests::{demands, prices};

    /// `part` thousandths of an amount.
    fn permille(of: Nanodollars, part: i128) -> Nanodollars {
        Nanodollars(i64::try_from(i128::from(of.0) * part / 1000).unwrap_or(i64::MAX))
    }

    proptest! {
        /// Against trying every length there is.
        #[test]
        fn the_longest_answer_that_fits_is_found_and_what_fits_is_left_alone(
            price in prices(), demand in demands(), asked in 0..250_u64, least in 0..100_u64,
            money in 0..1100_i128, tokens in prop::option::of(0..1100_u128),
        ) {
            let with = |tokens| Demand { max_output_tokens: Some(tokens), ..demand.clone() };
            let Ok(whole) = prices::bound(&price, &with(asked)) else { return Ok(()) };
            let whole = CallAmount::of(&whole);
            let most = CallAmount {
                nanodollars: permille(whole.nanodollars, money),
                tokens: tokens.map_or(u64::MAX, |part| u64::try_from(u128::from(whole.tokens) * part / 1000).unwrap()),
            };
            let fits = |tokens| CallAmount::of(&prices::bound(&price, &with(tokens)).unwrap()).fits_into(most);
            let longest = if fits(asked) { None } else { (least..asked).rev().find(|tokens| fits(*tokens)) };
            let found = shortened(&price, &with(asked), least, most);
            prop_assert_eq!(found.map(|(tokens, _)| tokens), longest);
            if let Some((tokens, bound)) = found {
                prop_assert_eq!(bound, prices::bound(&price, &with(tokens)).unwrap());
            }
        }

        /// What a call does not say is as much as the model gives.
        #[test]
        fn an_answer_of_any_length_is_shortened_as_well(price in prices(), demand in demands(), part in 1..1000_i128) {
            let open = Demand { max_output_tokens: None, ..demand };
            let Ok(whole) = prices::bound(&price, &open) else { return Ok(()) };
            let most = CallAmount { nanodollars: permille(whole.total_nanodollars(), part), tokens: u64::MAX };
            let said = Demand { max_output_tokens: price.max_output_tokens, ..open.clone() };
            prop_assert_eq!(shortened(&price, &open, 256, most), shortened(&price, &said, 256, most));
        }
    }
}
