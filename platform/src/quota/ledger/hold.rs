//! A hold: money set aside for one call, from its admission to its settlement.

use std::sync::{Arc, Mutex};

use super::journal::{Intent, Journal, Settlement};
use super::writer::{self, Message, What};
use crate::db::HoldId;
use crate::quota::admission::books::{Account, Amount, Place, Rate};
use crate::quota::admission::refusal::{Refusal, disk_refuses};
use crate::quota::prices::rules::{Outcome, Price, Seen};
use crate::quota::{Inner, lock};

/// The input of a model that is not asked for its long context.
const USUAL_CONTEXT: u64 = 200_000;

/// What a hold is made of.
pub(in crate::quota) struct Held {
    pub intent: Intent,
    pub place: Place,
    pub held: Amount,
    pub account: Arc<Mutex<Account>>,
    /// `None`: the table does not know the model, and nothing is charged by it.
    pub price: Option<Arc<Price>>,
}

/// Money set aside for one call. It is settled once, by [`Hold::settle`] or by being dropped, and never leaks.
#[must_use = "dropping it settles it"]
pub struct Hold {
    held: Option<Held>,
    sent: bool,
    rates: (Option<Rate>, Option<Rate>),
    books: Arc<Inner>,
}

impl Hold {
    /// Writes the intent of a call that has its place. Where the journal does not take it, that place is free again.
    pub(in crate::quota) fn promise(
        held: Held,
        rates: (Option<Rate>, Option<Rate>),
        books: &Arc<Inner>,
        journal: &Journal,
    ) -> Result<Self, Refusal> {
        if let Err(error) = journal.hold(&held.intent) {
            lock(&held.account).settle(&held.place, held.held, Amount::default());
            return Err(Refusal::Unavailable(disk_refuses(&error)));
        }
        Ok(Self { held: Some(held), sent: false, rates, books: Arc::clone(books) })
    }

    /// The id of the hold, and of the receipt that it becomes. `None` only while it is being dropped.
    #[must_use]
    pub fn id(&self) -> Option<HoldId> {
        self.held.as_ref().map(|held| held.intent.id)
    }

    /// What is left of the account's requests and tokens a minute, this call counted, where they are limited.
    #[must_use]
    pub fn rates(&self) -> (Option<Rate>, Option<Rate>) {
        self.rates
    }

    /// Whether the price table says that the model takes more input than the usual 200,000 tokens.
    #[must_use]
    pub fn takes_long_context(&self) -> bool {
        let price = self.held.as_ref().and_then(|held| held.price.as_ref());
        price.and_then(|price| price.max_input_tokens).is_some_and(|most| most > USUAL_CONTEXT)
    }

    /// Says that the call is about to be sent: from now on the provider may charge for it.
    pub fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Writes down what was seen of a long answer so far, for whoever has to settle it after a crash.
    pub fn saw(&self, seen: Seen) {
        if let (Some(held), Some(running)) = (&self.held, self.books.running.get())
            && let Err(error) = running.journal.saw(held.intent.id, seen)
        {
            tracing::warn!(%error, "the quota journal does not take what was seen of an answer");
        }
    }

    /// Settles the hold: what it kept from other calls is free when this returns. Does not wait for the database;
    /// [`crate::quota::Quota::settled`] does.
    ///
    /// `usage`: the provider's own figures as JSON, kept with the receipt.
    pub fn settle(mut self, seen: Seen, outcome: Outcome, usage: String) {
        self.end(seen, outcome, usage);
    }

    fn end(&mut self, seen: Seen, outcome: Outcome, usage: String) {
        let Some(Held { intent, place, held, account, price }) = self.held.take() else { return };
        let Some(running) = self.books.running.get() else { return };
        let (charge, worth_nanodollars) = intent.charge(price.as_deref(), seen);
        if intent.bound.is_counted && charge.amount_nanodollars > intent.held_nanodollars {
            tracing::error!(receipt.id = %intent.id, model = %intent.model,
                "what the provider counted beforehand was no bound; llm/request/counted.rs needs a wider margin");
        }
        let at = self.books.clock.now();
        let settlement = Settlement { id: intent.id, charge, outcome, usage, at, worth_nanodollars };
        let spent = intent.payer.spends(&charge);
        let limits = {
            let mut account = lock(&account);
            account.settle(&place, held, spent);
            account.limits()
        };
        let written = running.journal.settle(settlement, |settlement| {
            let over = writer::Over {
                what: What::Call { intent, settlement },
                allowance_nanodollars: limits.month_nanodollars,
                day_allowance_nanodollars: limits.day_nanodollars,
            };
            if running.ledger.send(Message::Over(Box::new(over))).is_err() {
                tracing::warn!("a call ended after the books were closed; it is settled at the next start");
            }
        });
        if let Err(error) = written {
            tracing::error!(%error, "the quota journal does not take a settlement; the database does");
        }
    }
}

impl Drop for Hold {
    /// The task of the call was dropped. Not sent yet, it cost nothing; sent, nobody knows what came of it.
    fn drop(&mut self) {
        let seen = if self.sent { Seen::CutOff { usage: None, output_tokens: 0 } } else { Seen::NoCharge };
        self.end(seen, Outcome::ClientGone, String::new());
    }
}
