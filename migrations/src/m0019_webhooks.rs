//! Webhooks in standard terms: inboxes, deliveries and dead letters replace mail and letters.

pub(crate) const STATEMENTS: &[&str] = &[
    "ALTER TABLE mail_paths RENAME TO webhook_paths",
    "ALTER TABLE letters RENAME TO webhook_deliveries",
    "ALTER TABLE webhook_deliveries RENAME COLUMN number TO sequence",
    "ALTER TABLE webhook_deliveries RENAME COLUMN try_at_ms TO next_attempt_at_ms",
    "ALTER TABLE webhook_deliveries RENAME COLUMN answer TO last_result",
    // state: waiting | delivered | dead_letter.
    "UPDATE webhook_deliveries SET state = 'dead_letter' WHERE state = 'failed'",
    // SQLite cannot rename an index.
    "DROP INDEX letters_by_instance",
    "CREATE INDEX webhook_deliveries_by_instance ON webhook_deliveries (instance_id, state, sequence)",
    // The words of `Cause` and `Work` in platform/src/instances that this migration renames.
    "UPDATE transitions SET cause = 'webhook' WHERE cause = 'mail'",
    "UPDATE instances SET wish_cause = 'webhook' WHERE wish_cause = 'mail'",
    "UPDATE instances SET fact_cause = 'webhook' WHERE fact_cause = 'mail'",
    "UPDATE transitions SET last_work = 'webhook' WHERE last_work = 'letter'",
    "UPDATE instances SET last_work = 'webhook' WHERE last_work = 'letter'",
];
