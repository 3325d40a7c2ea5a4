//! The awake ledger: the last kind of work of an instance, and the jobs that its program declared.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, STATEMENTS).await
    }
}

// The words are those of `Work` in platform/src/instances/work.rs; null in older rows.
const STATEMENTS: &[&str] = &[
    "ALTER TABLE instances ADD COLUMN last_work text",
    "ALTER TABLE transitions ADD COLUMN last_work text",
    "ALTER TABLE transitions ADD COLUMN last_work_at_ms bigint",
    "CREATE TABLE declared_jobs (
        instance_id {uuid} NOT NULL REFERENCES instances(id) ON DELETE CASCADE,
        name text NOT NULL,
        declared_at_ms bigint NOT NULL,
        until_ms bigint NOT NULL,
        PRIMARY KEY (instance_id, name)
    )",
];
