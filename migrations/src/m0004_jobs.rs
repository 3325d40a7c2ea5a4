//! Scheduled jobs, leased to one process at a time.

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
    // One row per job and due time: the unique pair makes enqueueing idempotent when two schedulers run.
    "CREATE TABLE jobs (
        id {uuid} PRIMARY KEY,
        kind text NOT NULL,
        due_at_ms bigint NOT NULL,
        leased_until_ms bigint NOT NULL,
        attempts bigint NOT NULL,
        done_at_ms bigint,
        UNIQUE (kind, due_at_ms)
    )",
    "CREATE INDEX jobs_by_due ON jobs (done_at_ms, due_at_ms)",
];
