//! Accounts' own API keys at model providers, and receipts of the calls made with them.

pub(crate) const STATEMENTS: &[&str] = &[
    // sealed: the encrypted key. Account and provider are its associated data, so that a row cannot be moved to another
    // account. refused_status: 401 | 403.
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
    // The price of a call with an own key according to the price table, if its model is in the table.
    "ALTER TABLE receipts ADD COLUMN worth_nanodollars bigint",
];
