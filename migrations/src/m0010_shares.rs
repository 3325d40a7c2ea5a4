//! Shares: paths of an instance that its owner opened to others.

pub(crate) const STATEMENTS: &[&str] = &[
    // path: / or /docs, without a trailing slash. audience: account | signed_in | everyone_while_awake | everyone.
    // handle: the account's handle, which never changes; empty for the other audiences.
    "CREATE TABLE shares (
        id {uuid} PRIMARY KEY,
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        path text NOT NULL,
        audience text NOT NULL,
        handle text NOT NULL,
        made_at_ms bigint NOT NULL
    )",
    "CREATE INDEX shares_by_instance ON shares (instance_id)",
    "CREATE INDEX shares_by_handle ON shares (handle)",
];
