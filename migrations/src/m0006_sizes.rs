//! Sizes of instances, idle timeouts of single instances, and the state of an upgrade.

pub(crate) const STATEMENTS: &[&str] = &[
    "ALTER TABLE instances ADD COLUMN size text NOT NULL DEFAULT 'standard'",
    // Where set, they override the timeouts of the size.
    "ALTER TABLE instances ADD COLUMN freeze_after_seconds bigint",
    "ALTER TABLE instances ADD COLUMN stop_after_seconds bigint",
    "ALTER TABLE instances ADD COLUMN remove_after_seconds bigint",
    // The image for a rollback when the new container does not become ready; set during an upgrade.
    "ALTER TABLE instances ADD COLUMN image_before text",
    // The image that did not become ready: not retried until its tag points to another image.
    "ALTER TABLE instances ADD COLUMN image_refused text",
    // An outdated container created before this time is replaced as soon as nothing is in flight.
    "ALTER TABLE instances ADD COLUMN renew_at_ms bigint NOT NULL DEFAULT 0",
];
