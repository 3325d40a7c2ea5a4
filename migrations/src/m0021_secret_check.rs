//! The check value of `BERTH_SECRET`, by which a start recognizes the secret of its database.

pub(crate) const STATEMENTS: &[&str] = &[
    // Facts about the installation as a whole, one row each. name: secret_check, an HMAC under a key derived from
    // BERTH_SECRET.
    "CREATE TABLE installation (
        name text PRIMARY KEY,
        value {bytes} NOT NULL
    )",
];
