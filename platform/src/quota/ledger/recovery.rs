//! What a process that died left in the journal, settled: the same journal always comes to the same receipts.

use std::collections::HashMap;
use std::sync::Arc;

use super::journal::{Entry, Intent, Settlement};
use super::writer::{Over, What};
use crate::clock::Timestamp;
use crate::db::{Db, HoldId};
use crate::error::Result;
use crate::quota::prices::rules::{Outcome, Price, Provider, Seen};
use crate::quota::store;

/// Calls that are over, and corrections.
pub struct Found {
    pub over: Vec<Over>,
    /// How many of them were in flight when the process died.
    pub orphans: usize,
}

/// Settles every intent in `left`: as its settlement says where there is one, and as whatever the provider may have
/// charged where there is none.
pub async fn settle_all(db: &Db, left: Vec<Entry<'_>>, now: Timestamp, allowance_nanodollars: i64) -> Result<Found> {
    let (mut intents, mut seen, mut settlements) = (Vec::<Intent>::new(), HashMap::new(), HashMap::new());
    let mut corrections = Vec::new();
    for entry in left {
        match entry {
            Entry::Held(intent) => intents.push(intent.into_owned()),
            Entry::Seen(id, what) => drop(seen.insert(id, what)),
            Entry::Settled(settlement) => drop(settlements.insert(settlement.id, settlement.into_owned())),
            Entry::Corrected(correction) => corrections.push(correction.into_owned().over(None)),
        }
    }
    let mut known = std::collections::HashSet::<HoldId>::new();
    // An intent that went along into a new file is there twice.
    intents.retain(|intent| known.insert(intent.id));
    let (mut over, mut orphans) = (Vec::with_capacity(intents.len()), 0);
    for intent in intents {
        let settlement = match settlements.remove(&intent.id) {
            Some(settlement) => settlement,
            None => {
                orphans += 1;
                orphaned(db, &intent, seen.remove(&intent.id), now).await?
            }
        };
        let what = What::Call { intent, settlement };
        over.push(Over { what, allowance_nanodollars, day_allowance_nanodollars: None });
    }
    over.extend(corrections);
    Ok(Found { over, orphans })
}

/// Nobody listened any more, and the provider may have gone on: charged like a call that was cut off from this side.
async fn orphaned(db: &Db, intent: &Intent, seen: Option<Seen>, now: Timestamp) -> Result<Settlement> {
    let price = price_of(db, intent).await?;
    let seen = seen.unwrap_or(Seen::Unreadable).cut_off();
    let (charge, worth_nanodollars) = intent.charge(price.as_deref(), seen);
    let (outcome, usage) = (Outcome::Recovered, String::new());
    Ok(Settlement { id: intent.id, charge, outcome, usage, at: now, worth_nanodollars })
}

/// What the call was held by, if that is still known.
async fn price_of(db: &Db, intent: &Intent) -> Result<Option<Arc<Price>>> {
    if intent.at_the_dearest {
        let book = store::price_book(db.read(), &intent.price_version).await?;
        return Ok(book.and_then(|book| book.dearest(&Provider::named(&intent.provider))));
    }
    let price = store::price(db.read(), &intent.price_version, &intent.provider, &intent.model).await?;
    Ok(price.map(Arc::new))
}
