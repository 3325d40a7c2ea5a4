//! Instances: the wish, the observed fact, and the history of transitions with their causes.

pub(crate) const STATEMENTS: &[&str] = &[
    // slot: the number that determines bridge and address; unique while this row exists. wish: available | frozen |
    // stopped | suspended | removed. Wishes, facts and causes are defined by Wish, Fact and Cause in
    // platform/src/instances/rules.rs.
    "CREATE TABLE instances (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL UNIQUE REFERENCES accounts(id),
        handle text NOT NULL UNIQUE,
        slot bigint NOT NULL UNIQUE,
        image text NOT NULL,
        wish text NOT NULL,
        wish_cause text NOT NULL,
        wish_at_ms bigint NOT NULL,
        fact text NOT NULL,
        fact_at_ms bigint NOT NULL,
        failure text,
        active_at_ms bigint NOT NULL,
        token_hash {bytes},
        created_at_ms bigint NOT NULL
    )",
    "CREATE INDEX instances_by_token ON instances (token_hash)",
    "CREATE TABLE transitions (
        id {uuid} PRIMARY KEY,
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        at_ms bigint NOT NULL,
        from_fact text NOT NULL,
        to_fact text NOT NULL,
        cause text NOT NULL
    )",
    "CREATE INDEX transitions_by_instance ON transitions (instance_id, at_ms)",
];
