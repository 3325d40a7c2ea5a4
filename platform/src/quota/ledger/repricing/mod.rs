//! Repricing: charges receipts by another version of the price table, as a dry run or for real, in steps of some
//! receipts each. Each difference becomes a correction; a second run changes nothing more.

mod rules;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use berth_providers::Provider;
use serde::{Deserialize, Serialize};

use self::rules::{CallAmounts, RepricedCost};
use super::corrections::{BY_OPERATOR, BY_PRICES, ReceiptChange};
use super::open::Ledger;
use super::receipt::Receipt;
use super::store::{self, ReceiptBatch};
use crate::db::audit::{self, AuditEntry};
use crate::db::{AccountId, HoldId};
use crate::quota::calendar::{Day, DayRange};
use crate::quota::prices::{Price, PriceBook};

/// The most receipts of one step.
const A_STEP: u64 = 500;

/// The receipts to reprice, and the price table to do it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepricingOrder {
    pub version: String,
    /// The first and the last day, such as `2026-11-25`, both included; `None`: no limit on that side.
    pub since: Option<String>,
    pub until: Option<String>,
    /// `None`: all accounts.
    pub account: Option<AccountId>,
}

/// Whether differences are only reported, or corrected; then with the actor for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepricingMode {
    DryRun,
    Apply { actor: String },
}

/// The result of a repricing so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepricingResult {
    /// The number of receipts that were examined.
    pub looked_at: u64,
    /// The number of receipts with another cost.
    pub changed: u64,
    /// The sum of all differences.
    pub nanodollars: Nanodollars,
    /// Left unchanged because the version has no price for their model, tier or searches.
    pub without_price: u64,
    /// Left unchanged because no usage was counted for them: the charge came from the hold.
    pub not_counted: u64,
    /// The accounts with a difference.
    pub accounts: Vec<AccountRepricing>,
}

/// The differences of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRepricing {
    pub account: AccountId,
    pub receipts: u64,
    pub nanodollars: Nanodollars,
}

/// A repricing in progress.
pub struct Repricing {
    ledger: Arc<Ledger>,
    book: PriceBook,
    days: DayRange,
    mode: RepricingMode,
    accounts: VecDeque<AccountId>,
    /// The position in the chain of the first account: receipts up to this number are done.
    after: i64,
    /// Price tables by which receipts were charged, cached by version; `None`: not stored any more.
    own: HashMap<String, Option<PriceBook>>,
    found: RepricingResult,
}

impl Ledger {
    /// Begins a repricing; [`Repricing::step`] continues it. Only the platform that makes calls can apply one.
    ///
    /// # Errors
    /// `Invalid` when there is no such version, or a day cannot be parsed; when the database does not answer.
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
    /// Examines some more receipts; `false` when none are left.
    ///
    /// # Errors
    /// When the database or the journal fails. Corrections made so far stay, and a new run does the rest.
    pub async fn step(&mut self) -> Result<bool> {
        let ledger = Arc::clone(&self.ledger);
        let Some(account) = self.accounts.front().copied() else { return Ok(false) };
        let turn = match &self.mode {
            RepricingMode::DryRun => None,
            RepricingMode::Apply { .. } => {
                let open = ledger.open()?;
                // For the whole step: with a correction by hand between reading a total and correcting it, the total
                // could fall below zero.
                let turn = open.corrections.lock().await;
                open.caught_up().await?;
                Some((open, turn))
            }
        };
        let db = ledger.db.read();
        let ReceiptBatch { receipts, last, is_full } =
            store::receipts_to_reprice(db, account, &self.days, self.after, A_STEP).await?;
        for receipt in self.differing(&receipts).await? {
            if let Some((open, _)) = &turn {
                open.accept(&ledger.admission, receipt.clone()).await?;
            }
            self.found.add(&receipt);
        }
        self.found.looked_at += receipts.len() as u64;
        match last {
            Some(last) if is_full => self.after = last,
            _ => {
                self.accounts.pop_front();
                self.after = 0;
            }
        }
        if let Some((open, _turn)) = &turn {
            // The next step, and the pages, read these corrections from the database.
            open.caught_up().await?;
        }
        Ok(!self.accounts.is_empty())
    }

    /// Runs all steps, and returns their result.
    ///
    /// # Errors
    /// As in [`Repricing::step`].
    pub async fn all(mut self) -> Result<RepricingResult> {
        while self.step().await? {}
        Ok(self.found)
    }

    /// The result so far, consuming the repricing.
    #[must_use]
    pub fn into_found(self) -> RepricingResult {
        self.found
    }

    /// The result so far.
    #[must_use]
    pub fn found(&self) -> &RepricingResult {
        &self.found
    }

    /// A correction for each of `receipts` with another cost than so far.
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

    /// The correction after which a call costs `costs`, unless it does already.
    fn correction(&self, receipt: &Receipt, costs: Nanodollars, before: &[Receipt], now: Timestamp) -> Option<Receipt> {
        let sum = |by_hand: bool| {
            let of_kind = before.iter().filter(|one| (one.basis == BY_OPERATOR) == by_hand);
            of_kind.fold(Nanodollars::ZERO, |sum, one| sum.saturating_add(one.amount_nanodollars))
        };
        let so_far =
            CallAmounts { charged: receipt.amount_nanodollars, repriced: sum(false), corrected_by_hand: sum(true) };
        let nanodollars = rules::difference(costs, so_far);
        let version = &self.book.version;
        // The count makes the id new each time: going back to an earlier version is another correction, no repetition.
        let known_by = format!("{version} {}", before.len());
        let change = ReceiptChange {
            nanodollars,
            basis: BY_PRICES,
            price_version: version,
            reason: format!("by the prices of version {version}"),
            known_by: &known_by,
        };
        (nanodollars != Nanodollars::ZERO).then(|| change.of(receipt, now))
    }

    /// The price by which the receipt was charged: the model's, or its provider's dearest where it had none.
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
