//! Domains of owners' own, by which their instances are entered.

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
    // proof: what a TXT record has to say; everybody may read it there. proven_at_ms: null while it is only claimed.
    // checked_at_ms: when DNS last answered. missed: how many days in a row the proof was not there.
    "CREATE TABLE domains (
        id {uuid} PRIMARY KEY,
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        name text NOT NULL,
        proof text NOT NULL,
        claimed_at_ms bigint NOT NULL,
        proven_at_ms bigint,
        checked_at_ms bigint,
        missed bigint NOT NULL
    )",
    "CREATE UNIQUE INDEX domains_by_instance ON domains (instance_id, name)",
    // Many may claim a name, one has it.
    "CREATE UNIQUE INDEX domains_by_name ON domains (name) WHERE proven_at_ms IS NOT NULL",
];
