//! Accounts: passkeys, recovery codes, sessions, sign-ups and challenges in progress, and the audit log.

pub(crate) const STATEMENTS: &[&str] = &[
    // state: active | suspended. role: member | admin. skeleton: the handle with confusable characters folded.
    "CREATE TABLE accounts (
        id {uuid} PRIMARY KEY,
        handle text NOT NULL UNIQUE,
        skeleton text NOT NULL UNIQUE,
        role text NOT NULL,
        state text NOT NULL,
        totp_secret {bytes} NOT NULL,
        totp_last_step bigint NOT NULL,
        totp_failures bigint NOT NULL,
        totp_blocked_until_ms bigint NOT NULL,
        created_at_ms bigint NOT NULL
    )",
    "CREATE TABLE passkeys (
        id {uuid} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        credential_id {bytes} NOT NULL UNIQUE,
        passkey text NOT NULL,
        name text NOT NULL,
        created_at_ms bigint NOT NULL,
        last_used_at_ms bigint NOT NULL
    )",
    "CREATE INDEX passkeys_by_account ON passkeys (account_id)",
    "CREATE TABLE recovery_codes (
        code_hash {bytes} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        used_at_ms bigint
    )",
    "CREATE INDEX recovery_codes_by_account ON recovery_codes (account_id)",
    // audience: the host for which the cookie is valid (the app host, or an instance's). parent_id: the session on the
    // app host from which an instance session was derived, and with which it ends.
    "CREATE TABLE sessions (
        id {uuid} PRIMARY KEY,
        token_hash {bytes} NOT NULL UNIQUE,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        audience text NOT NULL,
        parent_id {uuid} REFERENCES sessions(id) ON DELETE CASCADE,
        method text NOT NULL,
        user_agent text NOT NULL,
        ip text NOT NULL,
        created_at_ms bigint NOT NULL,
        last_used_at_ms bigint NOT NULL,
        expires_at_ms bigint NOT NULL,
        passkey_at_ms bigint NOT NULL
    )",
    "CREATE INDEX sessions_by_account ON sessions (account_id)",
    "CREATE INDEX sessions_by_parent ON sessions (parent_id)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at_ms)",
    // A sign-up in progress. It reserves the handle until it expires.
    "CREATE TABLE signups (
        id {uuid} PRIMARY KEY,
        token_hash {bytes} NOT NULL UNIQUE,
        account_id {uuid} NOT NULL,
        handle text NOT NULL UNIQUE,
        skeleton text NOT NULL UNIQUE,
        role text NOT NULL,
        passkey text,
        totp_secret {bytes} NOT NULL,
        totp_step bigint,
        recovery_codes {bytes},
        expires_at_ms bigint NOT NULL
    )",
    // A challenge that was issued and can be answered once: passkey ceremonies, a login that needs its one-time code, a
    // hand-off code for an instance's host.
    "CREATE TABLE challenges (
        token_hash {bytes} PRIMARY KEY,
        purpose text NOT NULL,
        state text NOT NULL,
        expires_at_ms bigint NOT NULL
    )",
    "CREATE INDEX challenges_by_expiry ON challenges (expires_at_ms)",
    "CREATE TABLE devices (
        token_hash {bytes} PRIMARY KEY,
        account_id {uuid} NOT NULL REFERENCES accounts(id),
        created_at_ms bigint NOT NULL
    )",
    "CREATE TABLE setup_links (
        token_hash {bytes} PRIMARY KEY,
        expires_at_ms bigint NOT NULL
    )",
    "CREATE TABLE audit (
        id {uuid} PRIMARY KEY,
        at_ms bigint NOT NULL,
        actor text NOT NULL,
        action text NOT NULL,
        subject text NOT NULL,
        detail text NOT NULL
    )",
    "CREATE INDEX audit_by_time ON audit (at_ms)",
];
