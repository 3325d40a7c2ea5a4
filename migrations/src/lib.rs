//! Database migrations: the schema, one change per file, the same for SQLite and PostgreSQL.
//!
//! Ids are UUIDs, times are `_ms` (milliseconds since the Unix epoch, UTC), money is `_nanodollars`; secrets and tokens
//! are stored hashed or encrypted. A change is a new file, never an edit of an old one. File names never change, even
//! when their words are no longer used: databases record the applied migrations by file name.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::{MigrationStatus, MigratorTrait};

mod m0001_accounts;
mod m0002_instances;
mod m0003_quota;
mod m0004_jobs;
mod m0005_fact_cause;
mod m0006_sizes;
mod m0007_awake_ledger;
mod m0008_mailbox_and_alarms;
mod m0009_departures;
mod m0010_shares;
mod m0011_domains;
mod m0012_certificates;
mod m0013_ports;
mod m0014_ledger;
mod m0015_alerts;
mod m0016_everybody;
mod m0017_own_keys;
mod m0018_corrections;
mod m0019_webhooks;
mod m0021_secret_check;

/// The migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_accounts::Migration),
            Box::new(m0002_instances::Migration),
            Box::new(m0003_quota::Migration),
            Box::new(m0004_jobs::Migration),
            Box::new(m0005_fact_cause::Migration),
            Box::new(m0006_sizes::Migration),
            Box::new(m0007_awake_ledger::Migration),
            Box::new(m0008_mailbox_and_alarms::Migration),
            Box::new(m0009_departures::Migration),
            Box::new(m0010_shares::Migration),
            Box::new(m0011_domains::Migration),
            Box::new(m0012_certificates::Migration),
            Box::new(m0013_ports::Migration),
            Box::new(m0014_ledger::Migration),
            Box::new(m0015_alerts::Migration),
            Box::new(m0016_everybody::Migration),
            Box::new(m0017_own_keys::Migration),
            Box::new(m0018_corrections::Migration),
            Box::new(m0019_webhooks::Migration),
            Box::new(m0021_secret_check::Migration),
        ]
    }
}

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
