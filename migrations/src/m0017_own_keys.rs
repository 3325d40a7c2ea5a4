//! Accounts' own API keys at model providers, and receipts of the calls made with them.

pub(crate) const STATEMENTS: &[&str] = &[
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
