//! Names that were allowed their first certificate, so that a restart forgets neither them nor the week's budget.

pub(crate) const STATEMENTS: &[&str] = &[
    // from_ms: from when on the name may have a certificate, which may lie ahead. The row outlives the account, as the
    // certificate does.
    "CREATE TABLE certificates (
        handle text PRIMARY KEY,
        from_ms bigint NOT NULL
    )",
    // Existing instances have their certificates already.
    "INSERT INTO certificates (handle, from_ms) SELECT handle, created_at_ms FROM instances",
];
