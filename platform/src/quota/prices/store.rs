//! SQL for price tables.

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{QueryOrder as _, Set};

use berth_providers::Provider;

use super::book::PriceBook;
use super::entities::{price_versions, prices};
use super::tariffs::Price;
use crate::db::{Tx, rows};

/// A table to be imported.
pub struct NewTable<'a> {
    pub book: &'a PriceBook,
    /// The file it came from, or `built in`.
    pub source: &'a str,
    /// As it was imported, in LiteLLM's form.
    pub text: &'a str,
    /// Empty for the table that came with the program.
    pub imported_by: &'a str,
    pub imported_at: Timestamp,
}

/// A version without its prices.
pub struct StoredTable {
    pub version: String,
    pub source: String,
    /// Empty for versions from before it was kept.
    pub text: String,
    pub imported_at: Timestamp,
    pub imported_by: String,
    /// 0: never, or not any more.
    pub activated_at: Timestamp,
    pub activated_by: String,
}

/// Writes every row of the table's book unless its version is there already. It is not in force by that.
pub async fn import(tx: &Tx, table: NewTable<'_>) -> Result<()> {
    let NewTable { book, source, text, imported_by, imported_at } = table;
    if price_versions::Entity::find_by_id(&book.version).one(tx).await?.is_some() {
        return Ok(());
    }
    let version = price_versions::ActiveModel {
        version: Set(book.version.clone()),
        source: Set(source.to_owned()),
        table_text: Set(text.to_owned()),
        imported_at_ms: Set(imported_at.0),
        imported_by: Set(imported_by.to_owned()),
        chosen_at_ms: Set(0),
        chosen_by: Set(String::new()),
    };
    price_versions::Entity::insert(version).exec_without_returning(tx).await?;
    let rows = book.rows().map(|(provider, model, price)| {
        Ok(prices::ActiveModel {
            version: Set(book.version.clone()),
            provider: Set(provider.as_str().into()),
            model: Set(model.into()),
            price: Set(serde_json::to_string(price).map_err(anyhow::Error::new)?),
        })
    });
    prices::Entity::insert_many(rows.collect::<Result<Vec<_>>>()?).exec_without_returning(tx).await?;
    Ok(())
}

/// Puts `version` in force; `false` when there is none of that name, or its text was not kept.
pub async fn activate(tx: &Tx, version: &str, by: &str, now: Timestamp) -> Result<bool> {
    let done = price_versions::Entity::update_many()
        .col_expr(price_versions::Column::ChosenAtMs, Expr::value(now.0))
        .col_expr(price_versions::Column::ChosenBy, Expr::value(by))
        .filter(price_versions::Column::Version.eq(version))
        .filter(price_versions::Column::TableText.ne(""))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Activates the built-in table again.
pub async fn activate_built_in(tx: &Tx) -> Result<()> {
    price_versions::Entity::update_many().col_expr(price_versions::Column::ChosenAtMs, Expr::value(0)).exec(tx).await?;
    Ok(())
}

/// Every version, the one in force first.
pub async fn tables(db: &impl ConnectionTrait) -> Result<Vec<StoredTable>> {
    let all = price_versions::Entity::find().order_by_desc(price_versions::Column::ChosenAtMs);
    rows::parsed(db, all.order_by_desc(price_versions::Column::ImportedAtMs), |row| Ok(row.into())).await
}

/// The table that the operator put in force; `None` when that is the program's own.
pub async fn active_table(db: &impl ConnectionTrait) -> Result<Option<StoredTable>> {
    Ok(tables(db).await?.into_iter().next().filter(|table| table.activated_at.0 > 0))
}

impl From<price_versions::Model> for StoredTable {
    fn from(row: price_versions::Model) -> Self {
        Self {
            version: row.version,
            source: row.source,
            text: row.table_text,
            imported_at: Timestamp(row.imported_at_ms),
            imported_by: row.imported_by,
            activated_at: Timestamp(row.chosen_at_ms),
            activated_by: row.chosen_by,
        }
    }
}

/// All prices of a version; `None` when there is none of that name. A model whose price cannot be parsed is one without
/// a price.
pub async fn book(db: &impl ConnectionTrait, version: &str) -> Result<Option<PriceBook>> {
    let all = prices::Entity::find().filter(prices::Column::Version.eq(version));
    let price = |row: prices::Model| {
        let price = serde_json::from_str(&row.price).map_err(anyhow::Error::new)?;
        Ok((Provider::named(&row.provider), row.model, price))
    };
    let rows = rows::parsed(db, all, price).await?;
    Ok((!rows.is_empty()).then(|| PriceBook::kept(version.to_owned(), rows)))
}

/// The price of a model in some version, if it is still known.
pub async fn price(db: &impl ConnectionTrait, version: &str, provider: &str, model: &str) -> Result<Option<Price>> {
    let key = (version.to_owned(), provider.to_owned(), model.to_owned());
    let row = prices::Entity::find_by_id(key).one(db).await?;
    Ok(row.and_then(|row| serde_json::from_str(&row.price).ok()))
}
