//! Why the fact of an instance came to be, beside the fact itself.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, STATEMENTS).await
    }
}

// Rows from before do not say; the next change of fact does.
const STATEMENTS: &[&str] = &["ALTER TABLE instances ADD COLUMN fact_cause text NOT NULL DEFAULT 'found_so'"];
