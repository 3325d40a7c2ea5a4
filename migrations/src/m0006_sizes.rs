//! What an instance may use, how soon it sleeps, and how far an upgrade has come.

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
    "ALTER TABLE instances ADD COLUMN size text NOT NULL DEFAULT 'standard'",
    // In the place of the size's own, where they are set.
    "ALTER TABLE instances ADD COLUMN freeze_after_seconds bigint",
    "ALTER TABLE instances ADD COLUMN stop_after_seconds bigint",
    "ALTER TABLE instances ADD COLUMN remove_after_seconds bigint",
    // The image to go back to when the new container does not become ready; set while an upgrade is under way.
    "ALTER TABLE instances ADD COLUMN image_before text",
    // The image that did not become ready: not tried again until its name means another.
    "ALTER TABLE instances ADD COLUMN image_refused text",
    // A container from before this moment that is not current is made anew as soon as nothing is in flight.
    "ALTER TABLE instances ADD COLUMN renew_at_ms bigint NOT NULL DEFAULT 0",
];
