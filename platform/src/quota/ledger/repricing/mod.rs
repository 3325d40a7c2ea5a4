//! Rating receipts again by another version of the prices: first only looked at, then done, in steps of some receipts
//! each. What differs becomes a correction; doing it again changes nothing more.

mod rules;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::{AccountId, HoldId, audit};
use crate::error::{Error, Result};
use crate::quota::calendar::Days;
use crate::quota::ledger::corrections::{BY_OPERATOR, BY_PRICES, Change};
use crate::quota::prices::book::PriceBook;
use crate::quota::prices::rules::{Price, Provider};
use crate::quota::{Inner, Quota, Receipt, store};
use rules::Rating;

/// Receipts of one step.
const A_STEP: u64 = 500;
/// Before the first day that the books name, and after the last.
const EVER: (&str, &str) = ("0000-00-00", "9999-99-99");

/// Which receipts, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerateOrder {
    pub version: String,
    /// Days as the books name them, `2026-11-25`, both with it; `None`: from the first, to the last.
    pub since: Option<String>,
    pub until: Option<String>,
    /// `None`: everybody.
    pub account: Option<AccountId>,
}

/// Whether what differs is only said, or changed; then by whom, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Look,
    Change { by: String },
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerated {
    /// Receipts of calls that were looked at.
    pub looked_at: u64,
    /// How many of them cost something else now.
    pub changed: u64,
    /// By how much, in all.
    pub nanodollars: i64,
    /// Left as they are because the version does not say what they cost: an unknown model, tier or search.
    pub without_price: u64,
    /// Left as they are because nobody counted what they used: they were charged by what was held.
    pub not_counted: u64,
    /// Accounts of which something changes.
    pub accounts: Vec<RatedAccount>,
}

/// What changes for one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatedAccount {
    pub account: AccountId,
    pub receipts: u64,
    pub nanodollars: i64,
}

/// A re-rating under way.
pub struct Rerating {
    quota: Quota,
    book: PriceBook,
    days: Days,
    mode: Mode,
    accounts: VecDeque<AccountId>,
    /// The number in the chain of the first of `accounts` up to which it was looked at.
    after: i64,
    /// Versions by which receipts were charged, as far as they came up.
    own: HashMap<String, Option<PriceBook>>,
    found: Rerated,
}

impl Quota {
    /// Begins to rate receipts again; [`Rerating::step`] goes on with it. To change anything takes the platform that makes
    /// calls.
    ///
    /// # Errors
    /// `Invalid` when there is no such version, or a day is none; when the database does not answer.
    pub async fn rerate(&self, order: RerateOrder, mode: Mode) -> Result<Rerating> {
        let Inner { db, clock, .. } = &*self.0;
        self.settled().await;
        let book = store::price_book(db.read(), &order.version).await?;
        let book = book.ok_or_else(|| Error::invalid("version", "There is no price table of that version."))?;
        let days = order.days()?;
        let mut accounts = match order.account {
            Some(account) => vec![account],
            None => store::accounts_with_receipts(db.read()).await?,
        };
        accounts.sort_unstable();
        if let Mode::Change { by } = &mode {
            self.0.running()?;
            let tx = db.begin().await?;
            let said = serde_json::to_string(&order).map_err(anyhow::Error::new)?;
            let entry = audit::AuditEntry { actor: by, action: "rerate", subject: &order.version, detail: &said };
            audit::record(&tx, clock, &entry).await?;
            tx.commit().await?;
        }
        Ok(Rerating {
            quota: self.clone(),
            book,
            days,
            mode,
            accounts: accounts.into(),
            after: 0,
            own: HashMap::new(),
            found: Rerated::default(),
        })
    }
}

impl RerateOrder {
    fn days(&self) -> Result<Days> {
        let day = |field, said: &Option<String>, or: &str| match said {
            None => Ok(or.to_owned()),
            Some(day) if Days::is_day(day) => Ok(day.clone()),
            Some(_) => Err(Error::invalid(field, "Write a day as 2026-11-25.")),
        };
        Ok(Days { first: day("since", &self.since, EVER.0)?, last: day("until", &self.until, EVER.1)? })
    }
}

impl Rerating {
    /// Looks at some more receipts; `false` when there are none left.
    ///
    /// # Errors
    /// When something cannot be read, or written down. What was done stays; beginning anew goes on with the rest.
    pub async fn step(&mut self) -> Result<bool> {
        let quota = self.quota.clone();
        let Some(account) = self.accounts.front().copied() else { return Ok(false) };
        let turn = match &self.mode {
            Mode::Look => None,
            Mode::Change { .. } => {
                let running = quota.0.running()?;
                let turn = running.corrections.lock().await;
                quota.caught_up(running).await?;
                Some((running, turn))
            }
        };
        let db = quota.0.db.read();
        let receipts = store::receipts_to_rate(db, account, &self.days, self.after, A_STEP).await?;
        for receipt in self.differing(&receipts).await? {
            if let Some((running, _)) = &turn {
                quota.0.accept(running, receipt.clone()).await?;
            }
            self.found.add(&receipt);
        }
        self.found.looked_at += receipts.len() as u64;
        match receipts.last() {
            Some(last) if receipts.len() as u64 == A_STEP => self.after = last.seq,
            _ => {
                self.accounts.pop_front();
                self.after = 0;
            }
        }
        if let Some((running, _turn)) = &turn {
            // So that who looks next sees it in the sums.
            quota.caught_up(running).await?;
        }
        Ok(!self.accounts.is_empty())
    }

    /// All steps, and what they found.
    ///
    /// # Errors
    /// As of [`Rerating::step`].
    pub async fn all(mut self) -> Result<Rerated> {
        while self.step().await? {}
        Ok(self.found)
    }

    /// What was found until now, for good.
    #[must_use]
    pub fn into_found(self) -> Rerated {
        self.found
    }

    /// What was found until now.
    #[must_use]
    pub fn found(&self) -> &Rerated {
        &self.found
    }

    /// A correction for each of `receipts` that costs something else than it did so far.
    async fn differing(&mut self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        let quota = self.quota.clone();
        let Inner { db, clock, .. } = &*quota.0;
        let mut before: HashMap<HoldId, Vec<Receipt>> = HashMap::new();
        for one in store::corrections_of(db.read(), receipts.iter().map(|receipt| receipt.id)).await? {
            before.entry(one.corrects.unwrap_or(one.id)).or_default().push(one);
        }
        let mut corrections = Vec::new();
        for receipt in receipts {
            let own = self.own_price(receipt).await?;
            let provider = Provider::named(&receipt.provider);
            let price = self.book.find(&provider, &receipt.model);
            match rules::rated(receipt, own.as_deref(), price.as_deref()) {
                Rating::Free => {}
                Rating::NoPrice => self.found.without_price += 1,
                Rating::NotCounted => self.found.not_counted += 1,
                Rating::Costs(costs) => {
                    let before = before.get(&receipt.id).map_or(&[][..], Vec::as_slice);
                    corrections.extend(self.correction(receipt, costs, before, clock.now()));
                }
            }
        }
        Ok(corrections)
    }

    /// The correction after which a call costs so much, if that is something else than it did so far.
    fn correction(&self, receipt: &Receipt, costs: i64, before: &[Receipt], now: Timestamp) -> Option<Receipt> {
        let sum = |by_hand: bool| {
            let of_kind = before.iter().filter(|one| (one.basis == BY_OPERATOR) == by_hand);
            of_kind.fold(0_i64, |sum, one| sum.saturating_add(one.amount_nanodollars))
        };
        let nanodollars = rules::difference(costs, (receipt.amount_nanodollars, sum(false), sum(true)));
        let version = &self.book.version;
        // Back and forth between versions, each step is another one.
        let known_by = format!("{version} {}", before.len());
        let change = Change {
            nanodollars,
            basis: BY_PRICES,
            price_version: version,
            reason: format!("by the prices of version {version}"),
            known_by: &known_by,
        };
        (nanodollars != 0).then(|| change.of(receipt, now))
    }

    /// What the receipt was charged by: the model's price, or its provider's dearest where it had none.
    async fn own_price(&mut self, receipt: &Receipt) -> Result<Option<Arc<Price>>> {
        let version = &receipt.price_version;
        if !self.own.contains_key(version) {
            let book = store::price_book(self.quota.0.db.read(), version).await?;
            self.own.insert(version.clone(), book);
        }
        let provider = Provider::named(&receipt.provider);
        let book = self.own.get(version).and_then(Option::as_ref);
        Ok(book.and_then(|book| book.find(&provider, &receipt.model).or_else(|| book.dearest(&provider))))
    }
}

impl Rerated {
    fn add(&mut self, correction: &Receipt) {
        let nanodollars = correction.amount_nanodollars;
        self.changed += 1;
        self.nanodollars = self.nanodollars.saturating_add(nanodollars);
        match self.accounts.last_mut() {
            Some(last) if last.account == correction.account_id => {
                last.receipts += 1;
                last.nanodollars = last.nanodollars.saturating_add(nanodollars);
            }
            _ => self.accounts.push(RatedAccount { account: correction.account_id, receipts: 1, nanodollars }),
        }
    }
}
