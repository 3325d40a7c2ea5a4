//! Accounts that leave: until when they can be kept, and how long nobody gets their place.

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
    // From the asking until everything is destroyed, or until keeping is done. asked_by: owner | operator. state_before:
    // of the account. buried_at_ms: when the host was told; kept_at_ms: when it was decided to keep the account after all.
    // instance_id is no reference: the row outlives the instance by a moment.
    "CREATE TABLE departures (
        account_id {uuid} PRIMARY KEY REFERENCES accounts(id),
        instance_id {uuid},
        asked_by text NOT NULL,
        state_before text NOT NULL,
        asked_at_ms bigint NOT NULL,
        due_at_ms bigint NOT NULL,
        buried_at_ms bigint,
        kept_at_ms bigint
    )",
    // Slots of instances that are gone: given again at free_at_ms.
    "CREATE TABLE resting_slots (
        slot bigint PRIMARY KEY,
        free_at_ms bigint NOT NULL
    )",
    // Receipts outlive the instance they were for, so instance_id is no reference any more. SQLite changes that only by
    // copying the table.
    "CREATE TABLE receipts_kept (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        instance_id {uuid} NOT NULL,
        period text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        price_version text NOT NULL,
        held_nanodollars bigint NOT NULL,
        amount_nanodollars bigint NOT NULL,
        input_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        cache_write_long_tokens bigint NOT NULL,
        cache_read_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        basis text NOT NULL,
        outcome text NOT NULL,
        usage text NOT NULL,
        held_at_ms bigint NOT NULL,
        settled_at_ms bigint NOT NULL
    )",
    "INSERT INTO receipts_kept (id, account_id, instance_id, period, provider, model, price_version, held_nanodollars,
        amount_nanodollars, input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens,
        basis, outcome, usage, held_at_ms, settled_at_ms)
     SELECT id, account_id, instance_id, period, provider, model, price_version, held_nanodollars,
        amount_nanodollars, input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens,
        basis, outcome, usage, held_at_ms, settled_at_ms FROM receipts",
    "DROP TABLE receipts",
    "ALTER TABLE receipts_kept RENAME TO receipts",
    "CREATE INDEX receipts_by_account ON receipts (account_id, period)",
];
