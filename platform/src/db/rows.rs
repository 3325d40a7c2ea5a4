//! Fault-tolerant reading of lists: a row that cannot be parsed is logged and left out, and the other rows are read.
//!
//! Nothing in Berth writes such a row. A failing disk, a restored backup or an operator at the database's own prompt
//! can, and one row must stop neither the start nor the list of anyone else's.

use sea_orm::{
    ConnectionTrait, EntityTrait, FromQueryResult as _, IdenStatic as _, Iterable as _, PrimaryKeyToColumn as _,
    QueryResult, QueryTrait as _, Select,
};
use uuid::Uuid;

use berth_ground::error::{Error, Result};

/// The rows of `select` as `parse` reads them, in their order, without those that cannot be parsed.
///
/// # Errors
/// When the database does not answer.
pub async fn parsed<E: EntityTrait, T>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    parse: impl Fn(E::Model) -> Result<T>,
) -> Result<Vec<T>> {
    let rows = db.query_all_raw(select.build(db.get_database_backend())).await?;
    let parsed = rows.iter().filter_map(|row| match model::<E>(row).and_then(&parse) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            tracing::error!(
                table = E::default().table_name(),
                row = key::<E>(row),
                ?error,
                "a row cannot be parsed and is left out; restore it from a backup or delete it"
            );
            None
        }
    });
    Ok(parsed.collect())
}

/// The row as its model.
///
/// # Errors
/// When a column holds a value of another type.
pub fn model<E: EntityTrait>(row: &QueryResult) -> Result<E::Model> {
    E::Model::from_query_result(row, "").map_err(Error::from)
}

/// The row's primary key, as far as it can be read, for the log.
fn key<E: EntityTrait>(row: &QueryResult) -> String {
    let text = |column: &str| {
        let id = row.try_get::<Uuid>("", column).map(|id| id.to_string());
        let text = id.or_else(|_| row.try_get::<String>("", column));
        text.or_else(|_| row.try_get::<i64>("", column).map(|number| number.to_string()))
    };
    let columns = E::PrimaryKey::iter().map(|key| key.into_column());
    columns.map(|column| text(column.as_str()).unwrap_or_else(|_| "?".into())).collect::<Vec<_>>().join(" ")
}
