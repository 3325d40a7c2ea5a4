//! Price tables opened up, for the operator to look at before anything goes by them: what each says of every model, and
//! how it differs from the one in force.

use super::book::{Changes, PriceBook};
use super::rules::Price;
use super::tables::PriceTable;
use crate::db::audit;
use crate::error::{Error, Result};
use crate::quota::{Quota, store};

/// A model and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedModel {
    pub provider: String,
    pub model: String,
    pub price: Price,
}

/// A model of which two tables say different things; `None`: nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub provider: String,
    pub model: String,
    /// In the table in force.
    pub before: Option<Price>,
    pub after: Option<Price>,
}

/// All that a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    pub version: String,
    /// By provider and name.
    pub models: Vec<PricedModel>,
    /// From the table in force to this one.
    pub changes: Changes,
    pub differences: Vec<Difference>,
}

impl Quota {
    /// Takes a table in and puts nothing in force: its version, by which it can be looked at.
    ///
    /// # Errors
    /// A sentence that says which row cannot be read; nothing is kept then.
    pub async fn keep_prices(&self, table: &str, source: &str, by: &str) -> Result<String> {
        let book = self.read_prices(table)?;
        let tx = self.0.db.begin().await?;
        store::import_prices(&tx, &book, (source, table), (by, self.0.clock.now())).await?;
        let entry = audit::AuditEntry { actor: by, action: "keep_prices", subject: &book.version, detail: source };
        audit::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        Ok(book.version)
    }

    /// What the table in force says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prices_in_force(&self) -> Result<Catalogue> {
        let book = self.in_force().await?.2;
        Ok(Catalogue::of(&book, &book))
    }

    /// What a version says, and what is kept about it.
    ///
    /// # Errors
    /// `NotFound`; when the database does not answer.
    pub async fn prices_of(&self, version: &str) -> Result<(PriceTable, Catalogue)> {
        let tables = self.price_tables().await?;
        let table = tables.into_iter().find(|table| table.version == version).ok_or(Error::NotFound)?;
        let book = store::price_book(self.0.db.read(), version).await?.ok_or(Error::NotFound)?;
        Ok((table, Catalogue::of(&book, &self.in_force().await?.2)))
    }
}

impl Catalogue {
    fn of(book: &PriceBook, in_force: &PriceBook) -> Self {
        let mut models: Vec<_> = book
            .rows()
            .map(|(provider, model, price)| PricedModel {
                provider: provider.as_str().to_owned(),
                model: model.to_owned(),
                price: price.clone(),
            })
            .collect();
        models.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        Self {
            version: book.version.clone(),
            models,
            changes: book.compared_with(in_force),
            differences: differences(book, in_force),
        }
    }
}

fn differences(book: &PriceBook, in_force: &PriceBook) -> Vec<Difference> {
    let after = book.rows().map(|(provider, model, price)| Difference {
        provider: provider.as_str().to_owned(),
        model: model.to_owned(),
        before: in_force.find(provider, model).as_deref().cloned(),
        after: Some(price.clone()),
    });
    let gone = in_force.rows().filter(|(provider, model, _)| book.find(provider, model).is_none());
    let gone = gone.map(|(provider, model, price)| Difference {
        provider: provider.as_str().to_owned(),
        model: model.to_owned(),
        before: Some(price.clone()),
        after: None,
    });
    let mut all: Vec<_> = after.filter(|one| one.before != one.after).chain(gone).collect();
    all.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    all
}
