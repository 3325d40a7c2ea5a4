//! Custom domains of instances.

pub(crate) const STATEMENTS: &[&str] = &[
    // proof: the expected text of a TXT record, which is public. proven_at_ms: null while the domain is only claimed.
    // checked_at_ms: when DNS last answered. missed: the number of consecutive days without the proof.
    "CREATE TABLE domains (
        id {uuid} PRIMARY KEY,
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        name text NOT NULL,
        proof text NOT NULL,
        claimed_at_ms bigint NOT NULL,
        proven_at_ms bigint,
        checked_at_ms bigint,
        missed bigint NOT NULL
    )",
    "CREATE UNIQUE INDEX domains_by_instance ON domains (instance_id, name)",
    // Any number of instances may claim a name; at most one can have proven it.
    "CREATE UNIQUE INDEX domains_by_name ON domains (name) WHERE proven_at_ms IS NOT NULL",
];
