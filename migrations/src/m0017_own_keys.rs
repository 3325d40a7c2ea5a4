//! Accounts' own API keys at model providers, and receipts of the calls made with them.

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
    // sealed: the encrypted key; account and provider are authenticated with it, so that a row cannot be moved to
    // another. refused_status: 401 | 403.
    "CREATE TABLE own_keys (
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        provider text NOT NULL,
        sealed {bytes} NOT NULL,
        last_four text NOT NULL,
        added_at_ms bigint NOT NULL,
        refused_at_ms bigint,
        refused_status bigint,
        PRIMARY KEY (account_id, provider)
    )",
    // budget | own_key
    "ALTER TABLE receipts ADD COLUMN payer text NOT NULL DEFAULT 'budget'",
    // The value of a call with an own key by the price table, where its model is in it.
    "ALTER TABLE receipts ADD COLUMN worth_nanodollars bigint",
];
