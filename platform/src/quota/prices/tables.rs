//! Price table versions: importing, activating and listing them, and the one in force.

use std::sync::{Arc, PoisonError, RwLock};

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::{Error, Result};
use berth_providers::Demand;

use super::book::{PriceBook, PriceChanges, TABLE};
use super::store::{self, NewTable, StoredTable};
use super::tariffs::Price;
use crate::config::{Config, Providers, UnknownModels};
use crate::db::Db;
use crate::db::audit::{self, AuditEntry};

/// The source of the table that a program was built with.
const BUILT_IN: &str = "built in";

/// All price tables that were imported, and the one in force.
pub struct PriceTables {
    db: Db,
    clock: Clock,
    /// Prices that are only in the settings.
    providers: Providers,
    unknown_models: UnknownModels,
    active: RwLock<Arc<PriceBook>>,
}

/// A table of prices, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTable {
    pub version: String,
    /// `built in`, or the file that it came from.
    pub source: String,
    pub is_in_force: bool,
    /// Whether it can be put in force: the text of old ones was not kept.
    pub is_whole: bool,
    pub imported: TableEvent,
    /// When it was last put in force; `at` is `None` when it never was.
    pub activated: TableEvent,
}

/// When the operator did something to a table, and who did it: empty for the table that came with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEvent {
    pub at: Option<Timestamp>,
    pub by: String,
}

/// A price by which a call is held and charged.
pub struct ApplicablePrice {
    pub price: Arc<Price>,
    /// The model has no price of its own: this is the dearest of its provider's.
    pub is_dearest: bool,
}

/// The table in force, as it was imported and with the settings.
struct ActiveTable {
    source: String,
    text: String,
    book: PriceBook,
}

impl PriceTables {
    /// With the table that was built in, until [`PriceTables::reload`].
    ///
    /// # Errors
    /// When that table cannot be read.
    pub(in crate::quota) fn open(db: Db, clock: Clock, config: &Config) -> Result<Self> {
        let Config { providers, unknown_models, .. } = config;
        let active = RwLock::new(Arc::new(PriceBook::read(TABLE, providers)?));
        Ok(Self { db, clock, providers: providers.clone(), unknown_models: *unknown_models, active })
    }

    /// Imports a table and activates it: later calls are held and charged by it, and earlier charges stay. Returns its
    /// version, and its differences from the one before. The platform that makes calls applies it after
    /// [`PriceTables::reload`].
    ///
    /// # Errors
    /// A sentence that says which row cannot be read; nothing has changed then.
    pub async fn import(&self, text: &str, source: &str, by: &str) -> Result<(String, PriceChanges)> {
        let book = self.read(text)?;
        let changes = book.compared_with(&self.active_book().await?);
        let (clock, now) = (&self.clock, self.clock.now());
        let tx = self.db.begin().await?;
        store::import(&tx, NewTable { book: &book, source, text, imported_by: by, imported_at: now }).await?;
        store::activate(&tx, &book.version, by, now).await?;
        let entry = AuditEntry { actor: by, action: "import_prices", subject: &book.version, detail: source };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        Ok((book.version, changes))
    }

    /// Imports a table without activating it, and returns its version.
    ///
    /// # Errors
    /// A sentence that says which row cannot be read; nothing is kept then.
    pub async fn add(&self, text: &str, source: &str, by: &str) -> Result<String> {
        let book = self.read(text)?;
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        store::import(&tx, NewTable { book: &book, source, text, imported_by: by, imported_at: now }).await?;
        let entry = AuditEntry { actor: by, action: "keep_prices", subject: &book.version, detail: source };
        audit::record(&tx, &self.clock, &entry).await?;
        tx.commit().await?;
        Ok(book.version)
    }

    /// Activates an imported table; `None`: the built-in one.
    ///
    /// # Errors
    /// When there is none of that version.
    pub async fn activate(&self, version: Option<&str>, by: &str) -> Result<()> {
        let built_in = self.read(TABLE)?.version;
        // Activated by its version, the built-in table would stay in force after an upgrade that brings another.
        let version = version.filter(|version| *version != built_in);
        let tx = self.db.begin().await?;
        match version {
            None => store::activate_built_in(&tx).await?,
            Some(version) => {
                if !store::activate(&tx, version, by, self.clock.now()).await? {
                    return Err(Error::NotFound);
                }
            }
        }
        let entry = AuditEntry { actor: by, action: "use_prices", subject: version.unwrap_or(BUILT_IN), detail: "" };
        audit::record(&tx, &self.clock, &entry).await?;
        tx.commit().await
    }

    /// Every table that is known, the newest first.
    pub async fn list(&self) -> Result<Vec<PriceTable>> {
        let active = self.active_book().await?.version;
        let tables = store::tables(self.db.read()).await?;
        Ok(tables.into_iter().map(|table| PriceTable::of(table, &active)).collect())
    }

    /// Applies the table that is in force now. Calls in flight are charged by the table that they were held by.
    pub async fn reload(&self) -> Result<()> {
        let ActiveTable { source, text, book } = self.active_table().await?;
        // Stored before the first call uses it: recovery looks prices up by version, and with other settings the same
        // table is another version.
        let tx = self.db.begin().await?;
        let (imported_by, imported_at) = ("", self.clock.now());
        store::import(&tx, NewTable { book: &book, source: &source, text: &text, imported_by, imported_at }).await?;
        tx.commit().await?;
        if book.version != self.active().version {
            tracing::info!(version = %book.version, "another price table is in force");
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        Ok(())
    }

    /// The prices by which this process goes now.
    pub(in crate::quota) fn active(&self) -> Arc<PriceBook> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The price in `book` by which a call is held and charged; `None` when the call cannot be made.
    pub(in crate::quota) fn applicable(&self, book: &PriceBook, demand: &Demand) -> Option<ApplicablePrice> {
        match (book.find(&demand.provider, &demand.model), self.unknown_models) {
            (Some(price), _) => Some(ApplicablePrice { price, is_dearest: false }),
            (None, UnknownModels::Dearest) => {
                Some(ApplicablePrice { price: book.dearest(&demand.provider)?, is_dearest: true })
            }
            (None, UnknownModels::Refuse) => None,
        }
    }

    /// All prices of a version, if it is still kept.
    pub(in crate::quota) async fn book(&self, version: &str) -> Result<Option<PriceBook>> {
        store::book(self.db.read(), version).await
    }

    /// The price of a model in a version, if that is still kept.
    pub(in crate::quota) async fn price(&self, version: &str, provider: &str, model: &str) -> Result<Option<Price>> {
        store::price(self.db.read(), version, provider, model).await
    }

    /// The prices in force by the database, which another process may have changed.
    pub(super) async fn active_book(&self) -> Result<PriceBook> {
        Ok(self.active_table().await?.book)
    }

    async fn active_table(&self) -> Result<ActiveTable> {
        let (source, text) = match store::active_table(self.db.read()).await? {
            Some(table) => (table.source, table.text),
            None => (BUILT_IN.to_owned(), TABLE.to_owned()),
        };
        let book = PriceBook::read(&text, &self.providers)?;
        Ok(ActiveTable { source, text, book })
    }

    /// What a table and the settings come to.
    fn read(&self, text: &str) -> Result<PriceBook> {
        PriceBook::read(text, &self.providers).map_err(|why| Error::invalid("prices", format!("{why:#}")))
    }
}

impl PriceTable {
    fn of(table: StoredTable, active: &str) -> Self {
        let event = |at: Timestamp, by| TableEvent { at: (at.0 > 0).then_some(at), by };
        Self {
            is_in_force: table.version == active,
            is_whole: !table.text.is_empty(),
            version: table.version,
            source: table.source,
            imported: event(table.imported_at, table.imported_by),
            activated: event(table.activated_at, table.activated_by),
        }
    }
}
