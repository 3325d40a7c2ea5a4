//! The awake ledger: the last kind of work of an instance, and the jobs that its program declared.

// The words are those of `Work` in platform/src/instances/work.rs; null in older rows.
pub(crate) const STATEMENTS: &[&str] = &[
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
