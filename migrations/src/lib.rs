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

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        all().into_iter().map(|migration| Box::new(migration) as Box<dyn MigrationTrait>).collect()
    }
}

/// One migration: statements that both databases understand. It is applied as a whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct SqlMigration {
    /// The name of its file, by which databases record it.
    pub name: &'static str,
    /// In order. `{uuid}` and `{bytes}` stand for the column types in which the databases differ.
    pub statements: &'static [&'static str],
}

macro_rules! migration {
    ($file:ident) => {
        SqlMigration { name: stringify!($file), statements: $file::STATEMENTS }
    };
}

/// Every migration, in order.
#[must_use]
pub fn all() -> Vec<SqlMigration> {
    vec![
        migration!(m0001_accounts),
        migration!(m0002_instances),
        migration!(m0003_quota),
        migration!(m0004_jobs),
        migration!(m0005_fact_cause),
        migration!(m0006_sizes),
        migration!(m0007_awake_ledger),
        migration!(m0008_mailbox_and_alarms),
        migration!(m0009_departures),
        migration!(m0010_shares),
        migration!(m0011_domains),
        migration!(m0012_certificates),
        migration!(m0013_ports),
        migration!(m0014_ledger),
        migration!(m0015_alerts),
        migration!(m0016_everybody),
        migration!(m0017_own_keys),
        migration!(m0018_corrections),
        migration!(m0019_webhooks),
        migration!(m0021_secret_check),
    ]
}

impl MigrationName for SqlMigration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SqlMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sqlite = manager.get_database_backend() == sea_orm::DbBackend::Sqlite;
        // sea-orm stores a `Uuid` as 16 bytes in SQLite, which has no such type.
        let (uuid, bytes) = if sqlite { ("blob", "blob") } else { ("uuid", "bytea") };
        for statement in self.statements {
            let statement = statement.replace("{uuid}", uuid).replace("{bytes}", bytes);
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    /// A crash or an error between two statements must leave a database on which the next start can begin again. The
    /// default of sea-orm-migration is a transaction on PostgreSQL alone.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
