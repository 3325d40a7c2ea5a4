//! Calls that hardly fit: whether they could at all, and with how long an answer.

use super::books::Amount;
use super::refusal::Refusal;
use crate::quota::ledger::hold::Hold;
use crate::quota::prices::rules::{self, Bound, Demand, Price};
use crate::quota::{AccountId, Call, Quota};

impl Quota {
    /// Whether what `demand` can cost is left to `account` just now, in money and in tokens a minute. Nothing is held: by
    /// the time of its admission it may be otherwise.
    pub async fn has_room_for(&self, account: AccountId, demand: &Demand) -> bool {
        let Some(price) = self.0.prices().find(&demand.provider, &demand.model) else { return false };
        let Ok(bound) = rules::bound(&price, demand) else { return false };
        match self.0.books(account).await {
            Ok(books) => Amount::of(&bound).fits_into(books.most()),
            Err(_) => false,
        }
    }

    /// Holds what `call` can cost at most, with the longest answer that what is left of every limit buys where its own does
    /// not fit; how many tokens that is, if so. In one step, so that calls at once do not share what is left.
    ///
    /// # Errors
    /// Why the call may not be made as it is, where it would not fit with an answer of `least` tokens either.
    pub async fn admit_shorter(&self, call: Call, least: u64) -> Result<(Hold, Option<u64>), Refusal> {
        let mut shortened_to = None;
        let admitted = self.admit_with(call, |account, price, demand, now| {
            account.turn(now);
            account.fill(now);
            let (tokens, bound) = shortened(price, demand, least, account.most())?;
            shortened_to = Some(tokens);
            Some(bound)
        });
        let hold = admitted.await?;
        Ok((hold, shortened_to))
    }
}

/// The longest answer with which `demand` needs at most `most`, in tokens. `None` where it fits as it is, or not even
/// with `least` of them.
fn shortened(price: &Price, demand: &Demand, least: u64, most: Amount) -> Option<(u64, Bound)> {
    let asked = demand.max_output_tokens.or(price.max_output_tokens).filter(|asked| *asked > least)?;
    let mut demand = demand.clone();
    // The bound itself is asked, which grows with the answer: a formula of its own could come to another result.
    let mut fitting = |tokens| {
        demand.max_output_tokens = Some(tokens);
        rules::bound(price, &demand).ok().filter(|bound| Amount::of(bound).fits_into(most))
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

    use super::*;
    use crate::quota::prices::rules::tests::{demands, prices};

    proptest! {
        /// Against trying every length there is.
        #[test]
        fn the_longest_answer_that_fits_is_found_and_what_fits_is_left_alone(
            price in prices(), demand in demands(), asked in 0..250_u64, least in 0..100_u64,
            money in 0..1100_i128, tokens in prop::option::of(0..1100_u128),
        ) {
            let with = |tokens| Demand { max_output_tokens: Some(tokens), ..demand.clone() };
            let Ok(whole) = rules::bound(&price, &with(asked)) else { return Ok(()) };
            let whole = Amount::of(&whole);
            let most = Amount {
                nanodollars: i64::try_from(i128::from(whole.nanodollars) * money / 1000).unwrap_or(i64::MAX),
                tokens: tokens.map_or(u64::MAX, |part| u64::try_from(u128::from(whole.tokens) * part / 1000).unwrap()),
            };
            let fits = |tokens| Amount::of(&rules::bound(&price, &with(tokens)).unwrap()).fits_into(most);
            let longest = if fits(asked) { None } else { (least..asked).rev().find(|tokens| fits(*tokens)) };
            let found = shortened(&price, &with(asked), least, most);
            prop_assert_eq!(found.map(|(tokens, _)| tokens), longest);
            if let Some((tokens, bound)) = found {
                prop_assert_eq!(bound, rules::bound(&price, &with(tokens)).unwrap());
            }
        }

        /// What a call does not say is as much as the model gives.
        #[test]
        fn an_answer_of_any_length_is_shortened_as_well(price in prices(), demand in demands(), permille in 1..1000_i128) {
            let open = Demand { max_output_tokens: None, ..demand };
            let Ok(whole) = rules::bound(&price, &open) else { return Ok(()) };
            let money = i128::from(whole.total_nanodollars()) * permille / 1000;
            let most = Amount { nanodollars: i64::try_from(money).unwrap(), tokens: u64::MAX };
            let said = Demand { max_output_tokens: price.max_output_tokens, ..open.clone() };
            prop_assert_eq!(shortened(&price, &open, 256, most), shortened(&price, &said, 256, most));
        }
    }
}
