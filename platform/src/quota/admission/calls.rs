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

/// A call to be admitted that the account's budget pays for.
#[derive(Clone, Debug)]
pub struct BudgetCall {
    pub account: AccountId,
    pub instance: InstanceId,
    /// The agent that makes the call, by the name it gives itself. Places are shared fairly between agents.
    pub agent: String,
    pub demand: Demand,
}

/// A call to be admitted that goes out under its owner's own key.
#[derive(Clone, Debug)]
pub struct OwnKeyCall {
    pub account: AccountId,
    pub instance: InstanceId,
    /// As in [`BudgetCall`].
    pub agent: String,
    pub provider: Provider,
    /// May be a model that the price table does not have.
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

/// An admitted call, booked in its account's books.
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
    /// The hold on the account's limits: the bound, or nothing where the owner pays the provider.
    pub held: CallAmount,
    pub payer: Payer,
    pub booking: Booking,
    pub books: Arc<SharedBooks>,
    /// The remainders of the limits a minute, this call counted.
    pub rates: RateLimits,
    pub at: Timestamp,
}

/// Whether the answer of a call may be shortened so that the call fits.
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

    /// Takes the most that a call can cost from all limits of its account, or nothing from any. The answer is
    /// shortened, where that is allowed, in the same atomic step, so that concurrent calls do not share the same
    /// remainder.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub(in crate::quota) async fn admit(&self, call: BoundedCall, fitting: Fitting) -> Result<FittedCall, Refusal> {
        let BoundedCall { call, price, at_the_dearest, price_version, bound } = call;
        let BudgetCall { account, instance, agent, demand } = call;
        let books = self.books(account).await?;
        let now = self.clock.now();
        let mut shortened_to = None;
        let (bound, held, booking, rates) = {
            // One lock from the remainder to the hold, and no await under it. With two locks, concurrent calls would
            // all be shortened to the same remainder, and all but one refused.
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

    /// Takes a place for a call under its owner's own key, and holds no money.
    ///
    /// Only the limit of concurrent calls applies, which protects the platform's own resources. Requests and tokens per
    /// minute share out the rate limits of the platform's keys, which these calls do not use.
    ///
    /// # Errors
    /// When the limit of concurrent calls is reached, or the books cannot be read.
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

    /// Whether `account` has enough money and tokens per minute for `demand` at this moment. Nothing is held, so the
    /// admission may still refuse.
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
