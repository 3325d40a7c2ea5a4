//! Admission of single calls: bounded by their price, then taken from every limit of their account in one step.

use std::sync::Arc;

use berth_ground::clock::Timestamp;
use berth_providers::{Demand, Provider};

use super::accounts::{Admission, SharedBooks};
use super::books::{Booking, Books, CallAmount, RateLimits};
use super::payer::Payer;
use super::refusal::Refusal;
use super::shortening::shortened;
use crate::db::{AccountId, InstanceId};
use crate::quota::prices::{self, CostBound, Price};

/// A call that wants to be made, and that the account's budget pays for.
#[derive(Clone, Debug)]
pub struct BudgetCall {
    pub account: AccountId,
    pub instance: InstanceId,
    /// Which of the account's agents makes it, as it says itself; places are shared out fairly between them.
    pub agent: String,
    pub demand: Demand,
}

/// A call that wants to be made under its owner's own key.
#[derive(Clone, Debug)]
pub struct OwnKeyCall {
    pub account: AccountId,
    pub instance: InstanceId,
    /// As of [`BudgetCall`].
    pub agent: String,
    pub provider: Provider,
    /// Also one that the price table does not know.
    pub model: String,
}

/// A call with its price and the most that it can cost. Nothing is held for it yet.
pub struct BoundedCall {
    call: BudgetCall,
    price: Arc<Price>,
    /// The model has no price of its own: this is the dearest of its provider's.
    at_the_dearest: bool,
    price_version: String,
    bound: CostBound,
}

/// A call that has its place in its account's books.
pub struct BookedCall {
    pub account: AccountId,
    pub instance: InstanceId,
    pub agent: String,
    pub provider: Provider,
    pub model: String,
    pub price_version: String,
    /// `None`: the table does not know the model, and nothing is charged by it.
    pub price: Option<Arc<Price>>,
    /// The model has no price of its own: `price` is the dearest of its provider's.
    pub at_the_dearest: bool,
    pub bound: CostBound,
    /// What the limits of the account hold for it: the bound, or nothing where the owner pays the provider.
    pub held: CallAmount,
    pub payer: Payer,
    pub booking: Booking,
    pub books: Arc<SharedBooks>,
    /// The remainders of the limits a minute, this call counted.
    pub rates: RateLimits,
    pub at: Timestamp,
}

/// Whether a call may be made shorter than it asks to be so that it fits.
pub enum Fitting {
    AsItIs,
    /// With the longest answer that fits, of at least so many tokens.
    Shortened {
        least: u64,
    },
}

/// A call that was admitted, and how many tokens its answer was shortened to, if it was.
pub struct FittedCall {
    pub admitted: BookedCall,
    pub shortened_to: Option<u64>,
}

impl Admission {
    /// The most that `call` can cost.
    ///
    /// # Errors
    /// When the price table does not know what it costs, or sets no bound to it.
    pub(in crate::quota) fn bound(&self, call: BudgetCall) -> Result<BoundedCall, Refusal> {
        let book = self.prices.active();
        let Some(applicable) = self.prices.applicable(&book, &call.demand) else {
            return Err(Refusal::UnknownModel { model: call.demand.model });
        };
        match prices::bound(&applicable.price, &call.demand) {
            Ok(bound) => Ok(BoundedCall {
                call,
                price: applicable.price,
                at_the_dearest: applicable.is_dearest,
                price_version: book.version.clone(),
                bound,
            }),
            Err(why) => Err(Refusal::NoBound { model: call.demand.model, why }),
        }
    }

    /// Takes what a call can cost at most from all limits of its account, or nothing from any. Its answer is shortened,
    /// if it may be, in the same step, so that concurrent calls do not share the same remainder.
    ///
    /// # Errors
    /// Why the call may not be made.
    pub(in crate::quota) async fn admit(&self, call: BoundedCall, fitting: Fitting) -> Result<FittedCall, Refusal> {
        let BoundedCall { call, price, at_the_dearest, price_version, bound } = call;
        let BudgetCall { account, instance, agent, demand } = call;
        let books = self.books(account).await?;
        let now = self.clock.now();
        let mut shortened_to = None;
        let (bound, held, booking, rates) = {
            let mut books = books.lock();
            let bound = match fitting {
                Fitting::AsItIs => bound,
                Fitting::Shortened { least } => match shorten(&mut books, &price, &demand, least, now) {
                    Some((tokens, shorter)) => {
                        shortened_to = Some(tokens);
                        shorter
                    }
                    None => bound,
                },
            };
            let held = CallAmount::of(&bound);
            let booking = books.admit(held, &agent, now).map_err(|over| Refusal::of(over, held.nanodollars, now))?;
            (bound, held, booking, books.rates())
        };
        let admitted = BookedCall {
            account,
            instance,
            agent,
            provider: demand.provider,
            model: demand.model,
            price_version,
            price: Some(price),
            at_the_dearest,
            bound,
            held,
            payer: Payer::Budget,
            booking,
            books,
            rates,
            at: now,
        };
        Ok(FittedCall { admitted, shortened_to })
    }

    /// Takes a place for a call that its owner pays the provider for, and holds no money.
    ///
    /// Of the limits only that of calls at once holds for it, which keeps the platform's own room. Requests and tokens
    /// a minute share out what the platform's keys bear at a provider, and these calls do not touch those.
    ///
    /// # Errors
    /// When as many calls as may be are in flight, or the books cannot be read.
    pub(in crate::quota) async fn admit_under_own_key(&self, call: OwnKeyCall) -> Result<BookedCall, Refusal> {
        let OwnKeyCall { account, instance, agent, provider, model } = call;
        let book = self.prices.active();
        let books = self.books(account).await?;
        let (now, held) = (self.clock.now(), CallAmount::default());
        let booking =
            books.lock().admit_under_own_key(&agent, now).map_err(|over| Refusal::of(over, held.nanodollars, now))?;
        Ok(BookedCall {
            account,
            instance,
            agent,
            price: book.find(&provider, &model),
            provider,
            model,
            price_version: book.version.clone(),
            at_the_dearest: false,
            bound: CostBound::default(),
            held,
            payer: Payer::OwnKey,
            booking,
            books,
            rates: RateLimits::default(),
            at: now,
        })
    }

    /// Whether what `demand` can cost is left to `account` just now, in money and in tokens a minute. Nothing is held:
    /// by the time of its admission it may be otherwise.
    pub async fn has_room_for(&self, account: AccountId, demand: &Demand) -> bool {
        let Some(price) = self.prices.active().find(&demand.provider, &demand.model) else { return false };
        let Ok(bound) = prices::bound(&price, demand) else { return false };
        match self.snapshot(account).await {
            Ok(books) => CallAmount::of(&bound).fits_into(books.most()),
            Err(_) => false,
        }
    }
}

/// The longest answer that fits into the remainders of all limits, in tokens, and the bound with it.
fn shorten(books: &mut Books, price: &Price, demand: &Demand, least: u64, now: Timestamp) -> Option<(u64, CostBound)> {
    books.turn(now);
    books.fill(now);
    shortened(price, demand, least, books.most())
}
