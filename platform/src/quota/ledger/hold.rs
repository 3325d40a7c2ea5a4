//! A hold: money set aside for one call, from its admission to its settlement.

use std::sync::Arc;

use super::entries::{EntryKind, LedgerEntry};
use super::intent::{Intent, Settlement};
use super::open::OpenLedger;
use super::writer::LedgerMessage;
use crate::db::HoldId;
use crate::quota::admission::{BookedCall, Booking, CallAmount, RateLimits, Refusal, SharedBooks, disk_refuses};
use crate::quota::prices::{CallOutcome, Price};
use berth_providers::UsageReport;

/// The context window, in tokens, of a model without its long context.
const USUAL_CONTEXT: u64 = 200_000;

/// The parts of a hold.
struct HeldCall {
    intent: Intent,
    booking: Booking,
    held: CallAmount,
    books: Arc<SharedBooks>,
    /// `None`: the table does not know the model, and nothing is charged by it.
    price: Option<Arc<Price>>,
}

/// Money set aside for one call. It is settled once, by [`Hold::settle`] or by being dropped, and never leaks.
#[must_use = "dropping it settles it"]
pub struct Hold {
    held: Option<HeldCall>,
    sent: bool,
    rates: RateLimits,
    ledger: Arc<OpenLedger>,
}

impl Hold {
    /// Writes the intent of an admitted call to the journal. If the write fails, the call's place and money are freed.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses; the call may not be made then.
    pub(in crate::quota) fn begin(ledger: &Arc<OpenLedger>, call: BookedCall) -> Result<Self, Refusal> {
        let intent = Intent::of(HoldId(ledger.clock.ordered_uuid()), &call);
        let BookedCall { booking, held, books, price, rates, .. } = call;
        // Admission comes before this write: with the write first, a refused call would leave an intent that recovery
        // charges.
        if let Err(error) = ledger.journal.hold(&intent) {
            books.lock().settle(&booking, held, CallAmount::default());
            return Err(Refusal::Unavailable(disk_refuses(&error)));
        }
        let held = Some(HeldCall { intent, booking, held, books, price });
        Ok(Self { held, sent: false, rates, ledger: Arc::clone(ledger) })
    }

    /// The id of the hold and of its later receipt. `None` only while it is being dropped.
    #[must_use]
    pub fn id(&self) -> Option<HoldId> {
        self.held.as_ref().map(|held| held.intent.id)
    }

    /// The remainders of requests and tokens per minute, with this call counted, where they are limited.
    #[must_use]
    pub fn rates(&self) -> RateLimits {
        self.rates
    }

    /// Whether the price table says that the model takes more input than the usual 200,000 tokens.
    #[must_use]
    pub fn takes_long_context(&self) -> bool {
        let price = self.held.as_ref().and_then(|held| held.price.as_ref());
        price.and_then(|price| price.max_input_tokens).is_some_and(|most| most > USUAL_CONTEXT)
    }

    /// Marks the call as about to be sent: from now on the provider may charge for it.
    pub fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Writes the usage seen so far of a long answer to the journal; recovery settles the call by it after a crash.
    pub fn saw(&self, seen: UsageReport) {
        if let Some(held) = &self.held
            && let Err(error) = self.ledger.journal.saw(held.intent.id, seen)
        {
            tracing::warn!(%error, "the quota journal does not take what was seen of an answer");
        }
    }

    /// Settles the hold: its unused part is free for other calls when this returns. Does not wait for the database;
    /// [`super::Ledger::settled`] does.
    ///
    /// `usage`: the provider's own figures as JSON, kept with the receipt.
    pub fn settle(mut self, seen: UsageReport, outcome: CallOutcome, usage: String) {
        self.end(seen, outcome, usage);
    }

    fn end(&mut self, seen: UsageReport, outcome: CallOutcome, usage: String) {
        let Some(HeldCall { intent, booking, held, books, price }) = self.held.take() else { return };
        let (charge, worth_nanodollars) = intent.charge(price.as_deref(), seen);
        if intent.bound.is_counted && charge.amount_nanodollars > intent.held_nanodollars {
            tracing::error!(receipt.id = %intent.id, model = %intent.model,
                "what the provider counted beforehand was no bound; crates/providers/src/request/token_count.rs needs a wider margin");
        }
        let at = self.ledger.clock.now();
        let settlement = Settlement { id: intent.id, charge, outcome, usage, at, worth_nanodollars };
        let spent = intent.payer.spends(&charge);
        // Memory before the journal: a kill between the two takes the memory with it, and recovery settles the intent.
        // In the other order concurrent calls would be refused for as long as the write takes.
        let limits = {
            let mut books = books.lock();
            books.settle(&booking, held, spent);
            books.limits()
        };
        let written = self.ledger.journal.settle(settlement, |settlement| {
            let entry = LedgerEntry {
                kind: EntryKind::Call { intent, settlement },
                allowance_nanodollars: limits.month_nanodollars,
                day_allowance_nanodollars: limits.day_nanodollars,
            };
            if self.ledger.writer.send(LedgerMessage::Entry(Box::new(entry))).is_err() {
                tracing::warn!("a call ended after the books were closed; it is settled at the next start");
            }
        });
        if let Err(error) = written {
            tracing::error!(%error, "the quota journal does not take a settlement; the database does");
        }
    }
}

impl Drop for Hold {
    /// The task of the call was dropped. A call that was not sent cost nothing. The usage of a call that was sent is
    /// unknown: it is settled as cut off.
    fn drop(&mut self) {
        let seen =
            if self.sent { UsageReport::CutOff { usage: None, output_tokens: 0 } } else { UsageReport::NoCharge };
        self.end(seen, CallOutcome::ClientGone, String::new());
    }
}
