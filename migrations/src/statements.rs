//! Statements of a migration, written once for both databases.

use sea_orm_migration::prelude::*;

/// Runs statements that both databases understand, in order. `{uuid}` and `{bytes}` are placeholders for the column
/// types that differ.
pub(crate) async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let sqlite = manager.get_database_backend() == sea_orm::DbBackend::Sqlite;
    // sea-orm stores a `Uuid` as 16 bytes in SQLite, which has no such type.
    let (uuid, bytes) = if sqlite { ("blob", "blob") } else { ("uuid", "bytea") };
    for statement in statements {
        let statement = statement.replace("{uuid}", uuid).replace("{bytes}", bytes);
        manager.get_connection().execute_unprepared(&statement).await?;
    }
    Ok(())
}
