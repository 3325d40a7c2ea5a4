//! Price comparison: for the operator, the price of each model in a table, and its differences from the table in force,
//! before that table is put in force.

use berth_ground::error::{Error, Result};

use super::book::{PriceBook, PriceChanges};
use super::tables::{PriceTable, PriceTables};
use super::tariffs::Price;

/// A model and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedModel {
    pub provider: String,
    pub model: String,
    pub price: Price,
}

/// A model with different prices in two tables; `None`: a table does not have the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceDifference {
    pub provider: String,
    pub model: String,
    /// In the table in force.
    pub before: Option<Price>,
    pub after: Option<Price>,
}

/// The content of a price table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceCatalogue {
    pub version: String,
    /// By provider and name.
    pub models: Vec<PricedModel>,
    /// From the table in force to this one.
    pub changes: PriceChanges,
    pub differences: Vec<PriceDifference>,
}

impl PriceTables {
    /// The catalogue of the table in force.
    pub async fn active_catalogue(&self) -> Result<PriceCatalogue> {
        let book = self.active_book().await?;
        Ok(PriceCatalogue::of(&book, &book))
    }

    /// The record of a version, and the catalogue of its prices.
    ///
    /// # Errors
    /// `NotFound` when there is none of that version.
    pub async fn catalogue(&self, version: &str) -> Result<(PriceTable, PriceCatalogue)> {
        let tables = self.list().await?;
        let table = tables.into_iter().find(|table| table.version == version).ok_or(Error::NotFound)?;
        let book = self.book(version).await?.ok_or(Error::NotFound)?;
        Ok((table, PriceCatalogue::of(&book, &self.active_book().await?)))
    }
}

impl PriceCatalogue {
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

fn differences(book: &PriceBook, in_force: &PriceBook) -> Vec<PriceDifference> {
    let after = book.rows().map(|(provider, model, price)| PriceDifference {
        provider: provider.as_str().to_owned(),
        model: model.to_owned(),
        before: in_force.find(provider, model).as_deref().cloned(),
        after: Some(price.clone()),
    });
    let gone = in_force.rows().filter(|(provider, model, _)| book.find(provider, model).is_none());
    let gone = gone.map(|(provider, model, price)| PriceDifference {
        provider: provider.as_str().to_owned(),
        model: model.to_owned(),
        before: Some(price.clone()),
        after: None,
    });
    let mut all: Vec<_> = after.filter(|one| one.before != one.after).chain(gone).collect();
    all.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    all
}
