//! Quota: allowances, holds, receipts and prices.

pub(crate) const STATEMENTS: &[&str] = &[
    // period: a calendar month in UTC, 2026-11.
    "CREATE TABLE allowances (
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        period text NOT NULL,
        allowance_nanodollars bigint NOT NULL,
        spent_nanodollars bigint NOT NULL,
        held_nanodollars bigint NOT NULL,
        PRIMARY KEY (account_id, period)
    )",
    "CREATE TABLE holds (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        period text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        price_version text NOT NULL,
        amount_nanodollars bigint NOT NULL,
        at_ms bigint NOT NULL
    )",
    "CREATE INDEX holds_by_account ON holds (account_id)",
    // basis: provider (its own usage figures) | observed (the usage seen until the stream broke) | held (no usage was
    // seen: the whole hold). outcome: completed | client_gone | upstream_broke | refused | recovered.
    "CREATE TABLE receipts (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        instance_id {uuid} NOT NULL REFERENCES instances(id),
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
    "CREATE INDEX receipts_by_account ON receipts (account_id, period)",
    // Nano-dollars per million tokens. A price change is a new version, never an update.
    "CREATE TABLE prices (
        version text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        price text NOT NULL,
        PRIMARY KEY (version, provider, model)
    )",
];
