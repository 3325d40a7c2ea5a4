//! Rating receipts again by another version of the prices: first only looked at, then done, in steps of some receipts
//! each. What differs becomes a correction; doing it again changes nothing more.

mod rules;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_providers::Provider;
use serde::{Deserialize, Serialize};

use self::rules::{CallAmounts, RepricedCost};
use super::corrections::{BY_OPERATOR, BY_PRICES, ReceiptChange};
use super::open::Ledger;
use super::receipt::Receipt;
use super::store;
use crate::db::audit::{self, AuditEntry};
use crate::db::{AccountId, HoldId};
use crate::quota::calendar::{Day, DayRange};
use crate::quota::prices::{Price, PriceBook};

/// Receipts of one step.
const A_STEP: u64 = 500;

/// Which receipts, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepricingOrder {
    pub version: String,
    /// Days as the books name them, `2026-11-25`, both with it; `None`: from the first, to the last.
    pub since: Option<String>,
    pub until: Option<String>,
    /// `None`: everybody.
    pub account: Option<AccountId>,
}

/// Whether what differs is only said, or changed; then by whom, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepricingMode {
    DryRun,
    Apply { actor: String },
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepricingResult {
    /// Receipts of calls that were looked at.
    pub looked_at: u64,
    /// How many of them cost something else now.
    pub changed: u64,
    /// By how much, in all.
    pub nanodollars: i64,
    /// Left as they are because the version does not say what they cost: an unknown model, tier or search.
    pub without_price: u64,
    /// Left as they are because no usage was counted for them: the charge came from the hold.
    pub not_counted: u64,
    /// Accounts of which something changes.
    pub accounts: Vec<AccountRepricing>,
}

/// What changes for one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRepricing {
    pub account: AccountId,
    pub receipts: u64,
    pub nanodollars: i64,
}

/// A re-rating under way.
pub struct Repricing {
    ledger: Arc<Ledger>,
    book: PriceBook,
    days: DayRange,
    mode: RepricingMode,
    accounts: VecDeque<AccountId>,
    /// The number in the chain of the first of `accounts` up to which it was looked at.
    after: i64,
    /// Versions by which receipts were charged, as far as they came up.
    own: HashMap<String, Option<PriceBook>>,
    found: RepricingResult,
}

impl Ledger {
    /// Begins to rate receipts again; [`Repricing::step`] goes on with it. To change anything takes the platform that
    /// makes calls.
    ///
    /// # Errors
    /// `Invalid` when there is no such version, or a day is none; when the database does not answer.
    pub async fn reprice(self: &Arc<Self>, order: RepricingOrder, mode: RepricingMode) -> Result<Repricing> {
        let Self { db, clock, prices, .. } = &**self;
        self.settled().await;
        let book = prices.book(&order.version).await?;
        let book = book.ok_or_else(|| Error::invalid("version", "There is no price table of that version."))?;
        let days = order.days()?;
        let mut accounts = match order.account {
            Some(account) => vec![account],
            None => store::accounts_with_receipts(db.read()).await?,
        };
        accounts.sort_unstable();
        if let RepricingMode::Apply { actor } = &mode {
            self.open()?;
            let tx = db.begin().await?;
            let said = serde_json::to_string(&order).map_err(anyhow::Error::new)?;
            let entry = AuditEntry { actor, action: "rerate", subject: &order.version, detail: &said };
            audit::record(&tx, clock, &entry).await?;
            tx.commit().await?;
        }
        Ok(Repricing {
            ledger: Arc::clone(self),
            book,
            days,
            mode,
            accounts: accounts.into(),
            after: 0,
            own: HashMap::new(),
            found: RepricingResult::default(),
        })
    }
}

impl RepricingOrder {
    fn days(&self) -> Result<DayRange> {
        let day = |field, said: &Option<String>, or: Day| match said.as_deref().map(str::parse) {
            None => Ok(or),
            Some(Ok(day)) => Ok(day),
            Some(Err(_)) => Err(Error::invalid(field, "Write a day as 2026-11-25.")),
        };
        Ok(day("since", &self.since, Day::FIRST)?..=day("until", &self.until, Day::LAST)?)
    }
}

impl Repricing {
    /// Looks at some more receipts; `false` when there are none left.
    ///
    /// # Errors
    /// When something cannot be read, or written down. What was done stays; beginning anew goes on with the rest.
    pub async fn step(&mut self) -> Result<bool> {
        let ledger = Arc::clone(&self.ledger);
        let Some(account) = self.accounts.front().copied() else { return Ok(false) };
        let turn = match &self.mode {
            RepricingMode::DryRun => None,
            RepricingMode::Apply { .. } => {
                let open = ledger.open()?;
                let turn = open.corrections.lock().await;
                open.caught_up().await?;
                Some((open, turn))
            }
        };
        let db = ledger.db.read();
        let receipts = store::receipts_to_reprice(db, account, &self.days, self.after, A_STEP).await?;
        for receipt in self.differing(&receipts).await? {
            if let Some((open, _)) = &turn {
                open.accept(&ledger.admission, receipt.clone()).await?;
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
        if let Some((open, _turn)) = &turn {
            // So that who looks next sees it in the sums.
            open.caught_up().await?;
        }
        Ok(!self.accounts.is_empty())
    }

    /// All steps, and what they found.
    ///
    /// # Errors
    /// As of [`Repricing::step`].
    pub async fn all(mut self) -> Result<RepricingResult> {
        while self.step().await? {}
        Ok(self.found)
    }

    /// What was found until now, for good.
    #[must_use]
    pub fn into_found(self) -> RepricingResult {
        self.found
    }

    /// What was found until now.
    #[must_use]
    pub fn found(&self) -> &RepricingResult {
        &self.found
    }

    /// A correction for each of `receipts` that costs something else than it did so far.
    async fn differing(&mut self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        let ledger = Arc::clone(&self.ledger);
        let Ledger { db, clock, .. } = &*ledger;
        let mut before: HashMap<HoldId, Vec<Receipt>> = HashMap::new();
        for one in store::corrections_of(db.read(), receipts.iter().map(|receipt| receipt.id)).await? {
            before.entry(one.corrects.unwrap_or(one.id)).or_default().push(one);
        }
        let mut corrections = Vec::new();
        for receipt in receipts {
            let own = self.own_price(receipt).await?;
            let provider = Provider::named(&receipt.provider);
            let price = self.book.find(&provider, &receipt.model);
            match rules::repriced(receipt, own.as_deref(), price.as_deref()) {
                RepricedCost::Free => {}
                RepricedCost::NoPrice => self.found.without_price += 1,
                RepricedCost::NotCounted => self.found.not_counted += 1,
                RepricedCost::Costs(costs) => {
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
        let so_far =
            CallAmounts { charged: receipt.amount_nanodollars, repriced: sum(false), corrected_by_hand: sum(true) };
        let nanodollars = rules::difference(costs, so_far);
        let version = &self.book.version;
        // Back and forth between versions, each step is another one.
        let known_by = format!("{version} {}", before.len());
        let change = ReceiptChange {
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
            let book = self.ledger.prices.book(version).await?;
            self.own.insert(version.clone(), book);
        }
        let provider = Provider::named(&receipt.provider);
        let book = self.own.get(version).and_then(Option::as_ref);
        Ok(book.and_then(|book| book.find(&provider, &receipt.model).or_else(|| book.dearest(&provider))))
    }
}

impl RepricingResult {
    fn add(&mut self, correction: &Receipt) {
        let nanodollars = correction.amount_nanodollars;
        self.changed += 1;
        self.nanodollars = self.nanodollars.saturating_add(nanodollars);
        match self.accounts.last_mut() {
            Some(last) if last.account == correction.account_id => {
                last.receipts += 1;
                last.nanodollars = last.nanodollars.saturating_add(nanodollars);
            }
            _ => self.accounts.push(AccountRepricing { account: correction.account_id, receipts: 1, nanodollars }),
        }
    }
}
