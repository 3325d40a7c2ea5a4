//! Additional ports of an instance that its owner opened.

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
    // In the displayed form: `3000, 8000-8003`; empty for none.
    "ALTER TABLE instances ADD COLUMN ports text NOT NULL DEFAULT ''",
];
