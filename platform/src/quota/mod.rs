//! Quota: what a call may cost is held before it is made, and what it did cost is settled after.
//!
//! A hold is an upper bound, taken from all of an account's limits in one step, and written to the journal before the
//! first byte goes to the provider. What does not fit is refused. So an account can never spend more than its
//! allowance, however many calls it makes at once; and a hold that a crash left behind is settled at the next start,
//! so nothing stays held for nothing.
//!
//! This process's memory decides (`limits`), the journal remembers (`journal`), and the database shows (`ledger`):
//! receipts, chained and signed (`chain`), and their sums. What a call cost otherwise is a receipt of its own
//! (`corrections`), also when many are rated again by other prices (`rerate`).

mod admission;
mod calendar;
mod entities;
mod ledger;
mod prices;
mod registration;
mod reports;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

pub use admission::books::Rate;
pub use admission::refusal::{Refusal, Span};
use anyhow::Context as _;
pub use calendar::Month;
pub use entities::alerts::Model as Alert;
pub use entities::limits::Model as OwnLimits;
pub use entities::receipts::Model as Receipt;
pub use ledger::corrections::{Corrected, LONGEST_REASON};
pub use ledger::hold::Hold;
pub use ledger::own_key_calls::{OwnCall, Payer};
pub use ledger::repricing::{Mode, RatedAccount, RerateOrder, Rerated, Rerating};
pub use prices::book::Changes;
pub use prices::catalogue::{Catalogue, Difference, PricedModel};
pub use prices::rules::{
    Basis, Bound, CacheWrites, Demand, InputBound, NoBound, Outcome, Price, Provider, Rates, Seen, Service, Tariff,
    Tier, Usage, dollars,
};
pub use prices::tables::PriceTable;
pub use registration::QuotaModule;
pub use reports::alerts::ALERT_WEBHOOK_PATH;
pub use reports::bill_comparison::{Drift, total as drift_of_all};
pub use reports::receipts::{Proof, Verified};
pub use reports::summary::{Left, Places, RateLeft, Sums, Today};
pub use reports::totals::{A_PAGE, AccountSpend, Everybody};
use serde::Serialize;
pub use store::{MonthSum, Order, Sum};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Limits, Providers, UnknownModels};
use crate::db::{AccountId, Db, HoldId, InstanceId};
use crate::error::{Error, Result};
use crate::secrets::InstallationKeys;
use admission::books::{Account, Amount};
use admission::refusal::TRY_AGAIN;
use calendar::Days;
use ledger::chain::Signer;
use ledger::corrections::Waiting;
use ledger::hold::Held;
use ledger::journal::{Intent, Journal};
use ledger::recovery;
use ledger::writer::{Ledger, Message};
use prices::book::{self, PriceBook};
use prices::rules;
use store::Whose;

/// How long a reader waits for calls that just ended to be in the database.
const SETTLING_PATIENCE: Duration = Duration::from_secs(2);

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Quota(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    /// Of accounts that have none of their own.
    limits: Limits,
    /// How long a receipt is kept.
    receipts_for: Duration,
    /// Where the journal lies.
    folder: PathBuf,
    signer: Arc<Signer>,
    /// The price table in force.
    prices: RwLock<Arc<PriceBook>>,
    /// Prices that are only in the settings.
    providers: Providers,
    unknown_models: UnknownModels,
    accounts: RwLock<HashMap<AccountId, Arc<Mutex<Account>>>>,
    running: OnceLock<Running>,
}

/// What the platform has that makes calls, and a command of the operator has not.
struct Running {
    journal: Arc<Journal>,
    ledger: mpsc::UnboundedSender<Message>,
    /// Wakes the ledger for who waits for it.
    hurry: Arc<Notify>,
    /// Another platform has opened the books since.
    closed: Arc<AtomicBool>,
    waiting: Arc<Waiting>,
    /// Whose turn it is to correct: each goes by what the one before left in the database.
    corrections: tokio::sync::Mutex<()>,
}

/// A call that wants to be made.
#[derive(Clone, Debug)]
pub struct Call {
    pub account: AccountId,
    pub instance: InstanceId,
    /// Which of the account's agents makes it, as it says itself; places are shared out fairly between them.
    pub agent: String,
    pub demand: Demand,
}

/// What an account spent on AI calls in one calendar month.
#[derive(Clone, Debug, Serialize)]
pub struct Spend {
    /// The month in UTC, `2026-11`.
    pub period: String,
    pub allowance_nanodollars: i64,
    /// Given beyond the allowance and not used by earlier months.
    pub credit_nanodollars: i64,
    pub spent_nanodollars: i64,
    /// Held for calls in flight; not spendable meanwhile. Only the platform that makes the calls knows it.
    pub held_nanodollars: i64,
    /// What may still be promised to calls: of the month, and of today where today has a limit.
    pub left_nanodollars: i64,
    /// Dearest first.
    pub by_model: Vec<ModelSpend>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelSpend {
    pub provider: String,
    pub model: String,
    pub calls: i64,
    /// All classes of input together: fresh, written to and read from the cache.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub amount_nanodollars: i64,
}

impl Quota {
    /// Opens the books and changes nothing in them. The platform that makes calls then says so with
    /// [`Quota::begin`]; a command of the operator does not, and its settings may be others than the platform's.
    ///
    /// # Errors
    /// When the price table that was built in cannot be read.
    pub fn open(db: Db, clock: Clock, keys: &InstallationKeys, config: &Config) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            limits: config.limits,
            receipts_for: config.receipts_for,
            folder: config.data_dir.join("quota"),
            signer: Arc::new(Signer::new(keys)),
            prices: RwLock::new(Arc::new(PriceBook::read(book::TABLE, &config.providers)?)),
            providers: config.providers.clone(),
            unknown_models: config.unknown_models,
            accounts: RwLock::default(),
            running: OnceLock::new(),
        })))
    }

    /// Makes the books ready for calls; call it once, before the first. Imports the price table, and settles what a
    /// crash left in the journal, so that nobody is refused because of it. Another platform that has the books of the
    /// same database open admits no calls any more.
    ///
    /// # Errors
    /// When the database does not answer, or another platform of this machine has the journal open.
    pub async fn begin(&self) -> anyhow::Result<()> {
        let Inner { db, clock, folder, signer, limits, .. } = &*self.0;
        let (journal, left) = Journal::open(folder)?;
        self.reread_prices().await?;
        let tx = db.begin().await?;
        let epoch = store::open_epoch(&tx).await?;
        tx.commit().await?;
        let (journal, closed, hurry) = (Arc::new(journal), Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let waiting = Arc::<Waiting>::default();
        let mut ledger = Ledger {
            db: db.clone(),
            signer: Arc::clone(signer),
            journal: Arc::clone(&journal),
            epoch,
            closed: Arc::clone(&closed),
            hurry: Arc::clone(&hurry),
            waiting: Arc::clone(&waiting),
            heads: HashMap::new(),
        };
        let found = recovery::settle_all(db, left, clock.now(), limits.month_nanodollars).await?;
        if found.orphans > 0 {
            tracing::warn!(calls = found.orphans, "calls were cut off by the last stop; charged as held");
        }
        ledger.carry_over_all(found.over).await?;
        journal.begin_new().context("beginning the quota journal")?;
        journal.forget_old().context("forgetting the old quota journal")?;
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(Journal::keep_on_disk(&journal));
        tokio::spawn(ledger.keep(messages));
        let corrections = tokio::sync::Mutex::default();
        let running = Running { journal, ledger: sender, hurry, closed, waiting, corrections };
        self.0.running.set(running).map_err(|_| anyhow::anyhow!("the books are open already"))
    }

    /// Holds what `call` can cost at most. After this returns the intent outlives this process, and the call may be made.
    ///
    /// # Errors
    /// Why the call may not be made. It is never refused because of a call that ended before it came.
    pub async fn admit(&self, call: Call) -> std::result::Result<Hold, Refusal> {
        self.admit_with(call, |_, _, _, _| None).await
    }

    /// The same. What `fitted` makes of the call is decided in one step with its admission; `None`: as it is.
    async fn admit_with(
        &self,
        call: Call,
        fitted: impl FnOnce(&mut Account, &Price, &Demand, Timestamp) -> Option<Bound> + Send,
    ) -> std::result::Result<Hold, Refusal> {
        let Call { account: owner, instance, agent, demand } = call;
        let book = self.0.prices();
        let price = self.0.price_of(&book, &demand);
        let Some((price, at_the_dearest)) = price else { return Err(Refusal::UnknownModel { model: demand.model }) };
        let bound = match rules::bound(&price, &demand) {
            Ok(bound) => bound,
            Err(why) => return Err(Refusal::NoBound { model: demand.model, why }),
        };
        let running = self.0.running()?;
        let account = self.0.account(owner).await?;
        let now = self.0.clock.now();
        // No await from here on: whoever is dropped has either nothing or the hold.
        let (bound, held, place, rates) = {
            let mut account = lock(&account);
            let bound = fitted(&mut account, &price, &demand, now).unwrap_or(bound);
            let held = Amount::of(&bound);
            let place = account.admit(held, &agent, now).map_err(|over| Refusal::of(over, held.nanodollars, now))?;
            (bound, held, place, account.rates())
        };
        let intent = Intent {
            id: HoldId(self.0.clock.ordered_uuid()),
            account: owner,
            instance,
            period: place.period.clone(),
            day: place.day.clone(),
            provider: demand.provider.as_str().into(),
            model: demand.model,
            agent,
            price_version: book.version.clone(),
            bound,
            held_nanodollars: held.nanodollars,
            at_the_dearest,
            at: now,
            payer: Payer::Budget,
        };
        Hold::promise(Held { intent, place, held, account, price: Some(price) }, rates, &self.0, &running.journal)
    }

    /// Returns when every call that ended before now has its receipt in the database, or after two seconds. For tests,
    /// for pages that show what was just spent, and for an orderly stop.
    pub async fn settled(&self) {
        let Some(running) = self.0.running.get() else { return };
        let (done, wait) = oneshot::channel();
        if running.ledger.send(Message::Flush(done)).is_ok() {
            running.hurry.notify_one();
            // Late or gone: the reader sees a database that is a moment old.
            let _ = tokio::time::timeout(SETTLING_PATIENCE, wait).await;
        }
    }

    /// What `account` spent this month. An account that made no call yet has its whole allowance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spend(&self, account: AccountId) -> Result<Spend> {
        self.settled().await;
        let books = self.0.books(account).await?;
        let month = books.month();
        Ok(Spend {
            by_model: store::spend_by_model(self.0.db.read(), Whose::One(account), &Days::in_month(&month.name))
                .await?,
            period: month.name.clone(),
            allowance_nanodollars: books.limits().month_nanodollars,
            credit_nanodollars: books.credit(),
            spent_nanodollars: month.spent_nanodollars,
            held_nanodollars: month.held_nanodollars,
            left_nanodollars: books.left(),
        })
    }

    /// Whether the books agree: receipts, sums by day and sums by month. Returns a sentence for each that does not;
    /// `doctor` and tests expect none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn disagreements(&self) -> Result<Vec<String>> {
        // Calls go on meanwhile, and must not look like disagreements.
        store::disagreements(&self.0.db.begin_reading().await?).await
    }
}

impl Inner {
    fn running(&self) -> Result<&Running> {
        let unavailable = |message: &str| Error::Unavailable { message: message.into(), retry_after: TRY_AGAIN };
        let running = self.running.get().ok_or_else(|| unavailable("AI calls are not served yet. Try again soon."))?;
        if running.closed.load(Ordering::Relaxed) {
            return Err(unavailable("This server was replaced by another one. Try again soon."));
        }
        Ok(running)
    }

    fn prices(&self) -> Arc<PriceBook> {
        Arc::clone(&self.prices.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a call is held and charged by, and whether that is its provider's dearest because the model has no price.
    fn price_of(&self, book: &PriceBook, demand: &Demand) -> Option<(Arc<Price>, bool)> {
        match (book.find(&demand.provider, &demand.model), self.unknown_models) {
            (Some(price), _) => Some((price, false)),
            (None, UnknownModels::Dearest) => Some((book.dearest(&demand.provider)?, true)),
            (None, UnknownModels::Refuse) => None,
        }
    }

    fn set_prices(&self, book: PriceBook) {
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }

    /// The account's books; read from the ledger before its first call.
    async fn account(&self, id: AccountId) -> Result<Arc<Mutex<Account>>> {
        let known = |accounts: &RwLock<HashMap<AccountId, Arc<Mutex<Account>>>>| {
            accounts.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
        };
        if let Some(account) = known(&self.accounts) {
            return Ok(account);
        }
        let account = store::account(self.db.read(), id, self.limits, self.clock.now()).await?;
        // Two that read it at once read the same: until it is known here, it has no call.
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(accounts.entry(id).or_insert_with(|| Arc::new(Mutex::new(account)))))
    }

    /// A copy of the account's books as they are now.
    async fn books(&self, id: AccountId) -> Result<Account> {
        let mut books = match self.running.get() {
            Some(_) => lock(&*self.account(id).await?).clone(),
            None => self.account_elsewhere(id).await?,
        };
        let now = self.clock.now();
        books.turn(now);
        books.fill(now);
        Ok(books)
    }

    /// The account's books as the platform that makes its calls left them in the ledger. Its allowance of this month is
    /// that platform's, whatever the settings of this command.
    async fn account_elsewhere(&self, id: AccountId) -> Result<Account> {
        let (db, now) = (self.db.read(), self.clock.now());
        let month = store::allowance(db, id, &calendar::period(now)).await?;
        let month_nanodollars = month.map_or(self.limits.month_nanodollars, |month| month.allowance_nanodollars);
        store::account(db, id, Limits { month_nanodollars, ..self.limits }, now).await
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    // Every step of an account checks before it changes anything, so no panic leaves it half changed.
    account.lock().unwrap_or_else(PoisonError::into_inner)
}
