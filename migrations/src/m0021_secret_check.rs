//! The check value of `BERTH_SECRET`, by which a start recognizes the secret of its database.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, STATEMENTS).await
    }
}

const STATEMENTS: &[&str] = &[
    // Facts about the installation as a whole, one row each. name: secret_check, an HMAC under a key derived from
    // BERTH_SECRET.
    "CREATE TABLE installation (
        name text PRIMARY KEY,
        value {bytes} NOT NULL
    )",
];
