//! The books of accounts in memory: read from the database before an account's first call, and authoritative after it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use berth_ground::clock::Clock;
use berth_ground::error::Result;
use berth_ground::money::Nanodollars;

use super::books::Books;
use super::store;
use crate::config::CallLimits;
use crate::db::{AccountId, Db};
use crate::quota::calendar::Month;
use crate::quota::prices::PriceTables;

/// Admission of calls: the books of every account, and the limits of each.
pub struct Admission {
    pub(in crate::quota) db: Db,
    pub(in crate::quota) clock: Clock,
    pub(in crate::quota) prices: Arc<PriceTables>,
    /// The limits of accounts that have none of their own.
    pub(super) limits: CallLimits,
    accounts: RwLock<HashMap<AccountId, Arc<SharedBooks>>>,
    /// Whether this process makes the calls: then its memory is authoritative, and the database lags behind.
    makes_calls: AtomicBool,
}

/// One account's books. Under the lock, each function of [`Books`] is one atomic step.
pub struct SharedBooks(Mutex<Books>);

impl SharedBooks {
    pub(in crate::quota) fn lock(&self) -> MutexGuard<'_, Books> {
        // A poisoned lock is used on: every step checks before it changes anything, so a panic leaves nothing half
        // done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    pub(in crate::quota) fn new(db: Db, clock: Clock, prices: Arc<PriceTables>, limits: CallLimits) -> Self {
        Self { db, clock, prices, limits, accounts: RwLock::default(), makes_calls: AtomicBool::new(false) }
    }

    /// Makes this process the one that makes calls.
    pub(in crate::quota) fn begin(&self) {
        self.makes_calls.store(true, Ordering::Release);
    }

    /// The month's allowance of accounts that have none of their own.
    pub(in crate::quota) fn usual_allowance(&self) -> Nanodollars {
        self.limits.month_nanodollars
    }

    /// The account's books; read from the database before its first call.
    pub(in crate::quota) async fn books(&self, id: AccountId) -> Result<Arc<SharedBooks>> {
        if let Some(books) = self.opened(id) {
            return Ok(books);
        }
        let books = store::books(self.db.read(), id, self.limits, self.clock.now()).await?;
        // Two tasks may read concurrently, and the second drops its copy. Both read the same, because an account that
        // is not in the map has no call in flight.
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(accounts.entry(id).or_insert_with(|| Arc::new(SharedBooks(Mutex::new(books))))))
    }

    /// A copy of the account's books as they are now.
    pub(in crate::quota) async fn snapshot(&self, id: AccountId) -> Result<Books> {
        let mut books = if self.makes_calls.load(Ordering::Acquire) {
            self.books(id).await?.lock().clone()
        } else {
            self.books_elsewhere(id).await?
        };
        let now = self.clock.now();
        books.turn(now);
        books.fill(now);
        Ok(books)
    }

    /// The account's books, if this process opened them.
    pub(in crate::quota) fn opened(&self, id: AccountId) -> Option<Arc<SharedBooks>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All books that this process opened.
    pub(in crate::quota) fn all_opened(&self) -> Vec<Arc<SharedBooks>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The account's books by the sums that the platform wrote to the database. The month's allowance is the platform's
    /// too, because the settings of this command may differ.
    async fn books_elsewhere(&self, id: AccountId) -> Result<Books> {
        let (db, now) = (self.db.read(), self.clock.now());
        let allowance = store::allowance(db, id, Month::of(now)).await?;
        let month_nanodollars = allowance.unwrap_or(self.limits.month_nanodollars);
        store::books(db, id, CallLimits { month_nanodollars, ..self.limits }, now).await
    }
}
