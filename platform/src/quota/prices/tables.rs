//! Which price table is in force: the operator's words about it, and taking one over.

use super::book::{Changes, PriceBook, TABLE};
use crate::clock::Timestamp;
use crate::db::audit;
use crate::error::{Error, Result};
use crate::quota::entities::price_versions;
use crate::quota::{Quota, store};

/// A table of prices, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTable {
    pub version: String,
    /// `built in`, or the file that it came from.
    pub source: String,
    pub is_in_force: bool,
    /// Whether it can be put in force: the text of old ones was not kept.
    pub is_whole: bool,
    /// When it was taken in, and by whom; nobody: it came with the program.
    pub taken_in: (Option<Timestamp>, String),
    /// The same of when it was last put in force.
    pub chosen: (Option<Timestamp>, String),
}

/// The source of the table that a program was built with.
const BUILT_IN: &str = "built in";

impl Quota {
    /// Takes a table in and puts it in force: calls are held and charged by it from now on, and what was charged stays.
    /// Its version, and how it differs from the one before. The platform that makes calls has to be told with
    /// [`Quota::reread_prices`].
    ///
    /// # Errors
    /// A sentence that says which row cannot be read; nothing has changed then.
    pub async fn import_prices(&self, table: &str, source: &str, by: &str) -> Result<(String, Changes)> {
        let book = self.read_prices(table)?;
        let changes = book.compared_with(&self.in_force().await?.2);
        let (clock, now) = (&self.0.clock, self.0.clock.now());
        let tx = self.0.db.begin().await?;
        store::import_prices(&tx, &book, (source, table), (by, now)).await?;
        store::choose_prices(&tx, &book.version, (by, now)).await?;
        let entry = audit::AuditEntry { actor: by, action: "import_prices", subject: &book.version, detail: source };
        audit::record(&tx, clock, &entry).await?;
        tx.commit().await?;
        Ok((book.version, changes))
    }

    /// Puts a table in force that was there before; `None`: the one that the program was built with.
    ///
    /// # Errors
    /// When there is none of that version.
    pub async fn use_prices(&self, version: Option<&str>, by: &str) -> Result<()> {
        let built_in = self.read_prices(TABLE)?.version;
        // Chosen by its version it would stay when the program comes with another.
        let version = version.filter(|version| *version != built_in);
        let tx = self.0.db.begin().await?;
        match version {
            None => store::choose_no_prices(&tx).await?,
            Some(version) => {
                if !store::choose_prices(&tx, version, (by, self.0.clock.now())).await? {
                    return Err(Error::NotFound);
                }
            }
        }
        let entry =
            audit::AuditEntry { actor: by, action: "use_prices", subject: version.unwrap_or(BUILT_IN), detail: "" };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await
    }

    /// Every table that is known, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn price_tables(&self) -> Result<Vec<PriceTable>> {
        let in_force = self.in_force().await?.2.version;
        let versions = store::price_versions(self.0.db.read()).await?;
        Ok(versions.into_iter().map(|version| PriceTable::of(version, &in_force)).collect())
    }

    /// Goes by the table that is in force now. Calls in flight are charged by the one that they were held by.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reread_prices(&self) -> Result<()> {
        let (source, table, book) = self.in_force().await?;
        // Written down before the first call goes by it: with other settings, the same table is another version.
        let tx = self.0.db.begin().await?;
        store::import_prices(&tx, &book, (&source, &table), ("", self.0.clock.now())).await?;
        tx.commit().await?;
        if book.version != self.0.prices().version {
            tracing::info!(version = %book.version, "another price table is in force");
        }
        self.0.set_prices(book);
        Ok(())
    }

    /// The table that is in force: where it came from, as it was imported, and what it and the settings come to.
    pub(super) async fn in_force(&self) -> Result<(String, String, PriceBook)> {
        let chosen = store::chosen_prices(self.0.db.read()).await?;
        let (source, table) = chosen.unwrap_or_else(|| (BUILT_IN.to_owned(), TABLE.to_owned()));
        let book = PriceBook::read(&table, &self.0.providers)?;
        Ok((source, table, book))
    }

    /// What `table` and the settings come to.
    pub(super) fn read_prices(&self, table: &str) -> Result<PriceBook> {
        PriceBook::read(table, &self.0.providers).map_err(|why| Error::invalid("prices", format!("{why:#}")))
    }
}

impl PriceTable {
    fn of(version: price_versions::Model, in_force: &str) -> Self {
        let at = |ms| (ms > 0).then_some(Timestamp(ms));
        Self {
            is_in_force: version.version == in_force,
            is_whole: !version.table_text.is_empty(),
            version: version.version,
            source: version.source,
            taken_in: (at(version.imported_at_ms), version.imported_by),
            chosen: (at(version.chosen_at_ms), version.chosen_by),
        }
    }
}
