//! Account deletion: scheduled deletions that can still be cancelled, and slots in quarantine.

pub(crate) const STATEMENTS: &[&str] = &[
    // A row exists from the request until everything is destroyed, or until a cancellation is complete. asked_by: owner
    //  operator. state_before: the account's previous state. buried_at_ms: when the instance's files got a tombstone.
    // kept_at_ms: when the deletion was cancelled. instance_id is not a foreign key: the row outlives the instance for
    // a moment.
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
    // The quarantine of slots of deleted instances, which may be assigned again from free_at_ms: an address must not
    // reach another tenant while anything may still use it for the old one.
    "CREATE TABLE resting_slots (
        slot bigint PRIMARY KEY,
        free_at_ms bigint NOT NULL
    )",
    // Receipts outlive their instance, so instance_id is no longer a foreign key. SQLite can drop a constraint only by
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
