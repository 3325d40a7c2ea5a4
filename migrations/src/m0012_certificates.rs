//! The budget of first certificates: names with a reservation, so that a restart loses neither them nor the week's
//! usage.

pub(crate) const STATEMENTS: &[&str] = &[
    // from_ms: the time from which the name may get a certificate, possibly in the future. The row outlives the
    // account, as the certificate does.
    "CREATE TABLE certificates (
        handle text PRIMARY KEY,
        from_ms bigint NOT NULL
    )",
    // Existing instances already have their certificates.
    "INSERT INTO certificates (handle, from_ms) SELECT handle, created_at_ms FROM instances",
];
