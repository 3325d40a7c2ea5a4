//! The quota ledger: limits per account, credit, receipts in a hash chain, and sums per day. From here on, the
//! platform's journal holds the calls in flight instead of a table.

pub(crate) const STATEMENTS: &[&str] = &[
    // Calls in flight when the previous version ended are charged at their hold, as that version would have done at its
    // next start.
    "INSERT INTO receipts (id, account_id, instance_id, period, provider, model, price_version, held_nanodollars,
        amount_nanodollars, input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens,
        basis, outcome, usage, held_at_ms, settled_at_ms)
     SELECT id, account_id, instance_id, period, provider, model, price_version, amount_nanodollars,
        amount_nanodollars, 0, 0, 0, 0, 0, 'held', 'recovered', '', at_ms, at_ms FROM holds",
    "UPDATE allowances SET spent_nanodollars = spent_nanodollars + held_nanodollars",
    "ALTER TABLE allowances DROP COLUMN held_nanodollars",
    "DROP TABLE holds",
    "ALTER TABLE receipts ADD COLUMN day text NOT NULL DEFAULT ''",
    "ALTER TABLE receipts ADD COLUMN agent text NOT NULL DEFAULT ''",
    // The usage that was priced, as JSON.
    "ALTER TABLE receipts ADD COLUMN counted text NOT NULL DEFAULT ''",
    "ALTER TABLE receipts ADD COLUMN corrects {uuid}",
    // Counts from 1 in each account; 0 for receipts from before the chain.
    "ALTER TABLE receipts ADD COLUMN seq bigint NOT NULL DEFAULT 0",
    "ALTER TABLE receipts ADD COLUMN previous text NOT NULL DEFAULT ''",
    "ALTER TABLE receipts ADD COLUMN hash text NOT NULL DEFAULT ''",
    "ALTER TABLE receipts ADD COLUMN signature text NOT NULL DEFAULT ''",
    // The day of older receipts is unknown: the first day of their month replaces it.
    "UPDATE receipts SET day = period || '-01'",
    "CREATE UNIQUE INDEX receipts_in_order ON receipts (account_id, seq) WHERE seq > 0",
    // day: 2026-11-25, in UTC, within the period that paid.
    "CREATE TABLE spend_days (
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        day text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        agent text NOT NULL,
        calls bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        amount_nanodollars bigint NOT NULL,
        PRIMARY KEY (account_id, day, provider, model, agent)
    )",
    "INSERT INTO spend_days
     SELECT account_id, day, provider, model, '', count(*),
        CAST(sum(input_tokens + cache_write_tokens + cache_write_long_tokens + cache_read_tokens) AS bigint),
        CAST(sum(output_tokens) AS bigint), CAST(sum(amount_nanodollars) AS bigint)
     FROM receipts GROUP BY account_id, day, provider, model",
    // Null means the installation's limit.
    "CREATE TABLE quota_limits (
        account_id {uuid} PRIMARY KEY REFERENCES accounts(id),
        month_nanodollars bigint,
        day_nanodollars bigint,
        requests_a_minute bigint,
        tokens_a_minute bigint,
        calls_at_once bigint
    )",
    "CREATE TABLE credits (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        amount_nanodollars bigint NOT NULL,
        note text NOT NULL,
        at_ms bigint NOT NULL
    )",
    "CREATE INDEX credits_by_account ON credits (account_id)",
    // A single row, the fencing token of the ledger: a platform that opens the ledger raises the epoch, and a platform
    // with an older epoch can no longer write.
    "CREATE TABLE books (id bigint PRIMARY KEY, epoch bigint NOT NULL)",
    "INSERT INTO books (id, epoch) VALUES (1, 0)",
    // chosen_at_ms: when the operator activated the version. The latest is active; without one, the built-in table.
    "CREATE TABLE price_versions (
        version text PRIMARY KEY,
        source text NOT NULL,
        table_text text NOT NULL,
        imported_at_ms bigint NOT NULL,
        chosen_at_ms bigint NOT NULL
    )",
    "INSERT INTO price_versions SELECT DISTINCT version, 'built in', '', 0, 0 FROM prices",
];
