//! The cause of an instance's observed fact.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, STATEMENTS).await
    }
}

// Unknown for older rows, until their next change of fact.
const STATEMENTS: &[&str] = &["ALTER TABLE instances ADD COLUMN fact_cause text NOT NULL DEFAULT 'found_so'"];
