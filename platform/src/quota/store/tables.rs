//! Price tables.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{QueryOrder as _, Set};

use crate::clock::Timestamp;
use crate::db::Tx;
use crate::error::Result;
use crate::quota::entities::{price_versions, prices};
use crate::quota::prices::book::PriceBook;
use crate::quota::prices::rules::{Price, Provider};

/// Writes every row of `book` unless its version is there already. It is not in force by that.
pub async fn import_prices(
    tx: &Tx,
    book: &PriceBook,
    (source, table): (&str, &str),
    (by, now): (&str, Timestamp),
) -> Result<()> {
    if price_versions::Entity::find_by_id(&book.version).one(tx).await?.is_some() {
        return Ok(());
    }
    let version = price_versions::ActiveModel {
        version: Set(book.version.clone()),
        source: Set(source.to_owned()),
        table_text: Set(table.to_owned()),
        imported_at_ms: Set(now.0),
        imported_by: Set(by.to_owned()),
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

/// Puts `version` in force; `false` when there is none of that name, or its table was not kept.
pub async fn choose_prices(tx: &Tx, version: &str, (by, now): (&str, Timestamp)) -> Result<bool> {
    let done = price_versions::Entity::update_many()
        .col_expr(price_versions::Column::ChosenAtMs, Expr::value(now.0))
        .col_expr(price_versions::Column::ChosenBy, Expr::value(by))
        .filter(price_versions::Column::Version.eq(version))
        .filter(price_versions::Column::TableText.ne(""))
        .exec(tx)
        .await?;
    Ok(done.rows_affected == 1)
}

/// Forgets the operator's choice of a version: the program's own is in force again.
pub async fn choose_no_prices(tx: &Tx) -> Result<()> {
    price_versions::Entity::update_many().col_expr(price_versions::Column::ChosenAtMs, Expr::value(0)).exec(tx).await?;
    Ok(())
}

/// Every version, the one in force first.
pub async fn price_versions(db: &impl ConnectionTrait) -> Result<Vec<price_versions::Model>> {
    let all = price_versions::Entity::find().order_by_desc(price_versions::Column::ChosenAtMs);
    Ok(all.order_by_desc(price_versions::Column::ImportedAtMs).all(db).await?)
}

/// The table that the operator put in force, and where it came from; `None` when that is the program's own.
pub async fn chosen_prices(db: &impl ConnectionTrait) -> Result<Option<(String, String)>> {
    let chosen = price_versions(db).await?.into_iter().next().filter(|version| version.chosen_at_ms > 0);
    Ok(chosen.map(|version| (version.source, version.table_text)))
}

/// All of a version; `None` when there is none of that name.
pub async fn price_book(db: &impl ConnectionTrait, version: &str) -> Result<Option<PriceBook>> {
    let rows = prices::Entity::find().filter(prices::Column::Version.eq(version)).all(db).await?;
    let price = |row: prices::Model| {
        let price = serde_json::from_str(&row.price).map_err(anyhow::Error::new)?;
        Ok((Provider::named(&row.provider), row.model, price))
    };
    let rows = rows.into_iter().map(price).collect::<Result<Vec<_>>>()?;
    Ok((!rows.is_empty()).then(|| PriceBook::kept(version.to_owned(), rows)))
}

/// The price of a model in some version, if it is still known.
pub async fn price(db: &impl ConnectionTrait, version: &str, provider: &str, model: &str) -> Result<Option<Price>> {
    let key = (version.to_owned(), provider.to_owned(), model.to_owned());
    let row = prices::Entity::find_by_id(key).one(db).await?;
    Ok(row.and_then(|row| serde_json::from_str(&row.price).ok()))
}
