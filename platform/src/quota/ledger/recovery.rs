//! Crash recovery: settles the calls that a dead process left in the journal. The same journal always gives the same
//! receipts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::money::Nanodollars;
use berth_providers::{Provider, UsageReport};

use super::entries::{EntryKind, LedgerEntry};
use super::intent::{Intent, Settlement};
use super::journal::JournalRecord;
use crate::db::HoldId;
use crate::quota::prices::{CallOutcome, Price, PriceTables};

/// Calls that are over, and corrections.
pub struct RecoveredEntries {
    pub entries: Vec<LedgerEntry>,
    /// How many of them were in flight when the process died.
    pub orphans: usize,
}

/// Settles every intent in `left`: by its settlement where there is one, and otherwise by the most that the provider
/// may have charged.
pub async fn settle_all(
    prices: &PriceTables,
    left: Vec<JournalRecord<'_>>,
    now: Timestamp,
    allowance_nanodollars: Nanodollars,
) -> Result<RecoveredEntries> {
    let (mut intents, mut seen, mut settlements) = (Vec::<Intent>::new(), HashMap::new(), HashMap::new());
    let mut corrections = Vec::new();
    for entry in left {
        match entry {
            JournalRecord::Held(intent) => intents.push(intent.into_owned()),
            JournalRecord::Seen(id, what) => drop(seen.insert(id, what)),
            JournalRecord::Settled(settlement) => drop(settlements.insert(settlement.id, settlement.into_owned())),
            JournalRecord::Corrected(correction) => corrections.push(correction.into_owned().into_entry(None)),
        }
    }
    let mut known = HashSet::<HoldId>::new();
    // An intent that was open when the journal was rotated is in both files.
    intents.retain(|intent| known.insert(intent.id));
    let (mut entries, mut orphans) = (Vec::with_capacity(intents.len()), 0);
    for intent in intents {
        let settlement = match settlements.remove(&intent.id) {
            Some(settlement) => settlement,
            None => {
                orphans += 1;
                orphaned(prices, &intent, seen.remove(&intent.id), now).await?
            }
        };
        let kind = EntryKind::Call { intent, settlement };
        entries.push(LedgerEntry { kind, allowance_nanodollars, day_allowance_nanodollars: None });
    }
    entries.extend(corrections);
    Ok(RecoveredEntries { entries, orphans })
}

/// Settles a call that a crash left open. The provider may have gone on after the connection was lost: charged like a
/// call that was cut off from this side.
async fn orphaned(
    prices: &PriceTables,
    intent: &Intent,
    seen: Option<UsageReport>,
    now: Timestamp,
) -> Result<Settlement> {
    let price = price_of(prices, intent).await?;
    let seen = seen.unwrap_or(UsageReport::Unreadable).cut_off();
    let (charge, worth_nanodollars) = intent.charge(price.as_deref(), seen);
    let (outcome, usage) = (CallOutcome::Recovered, String::new());
    Ok(Settlement { id: intent.id, charge, outcome, usage, at: now, worth_nanodollars })
}

/// The price by which the call was held, if its table is still stored.
async fn price_of(prices: &PriceTables, intent: &Intent) -> Result<Option<Arc<Price>>> {
    if intent.at_the_dearest {
        let book = prices.book(&intent.price_version).await?;
        return Ok(book.and_then(|book| book.dearest(&Provider::named(&intent.provider))));
    }
    let price = prices.price(&intent.price_version, &intent.provider, &intent.model).await?;
    Ok(price.map(Arc::new))
}
