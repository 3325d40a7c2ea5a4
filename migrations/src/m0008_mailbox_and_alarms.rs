//! Webhooks and alarms: open paths, stored requests and scheduled wakes. `m0019_webhooks` renames the tables.

pub(crate) const STATEMENTS: &[&str] = &[
    // A path may end in a secret (capability URL). The owner can see it in full, so it cannot be hashed.
    "CREATE TABLE mail_paths (
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        path text NOT NULL,
        opened_at_ms bigint NOT NULL,
        PRIMARY KEY (instance_id, path)
    )",
    // number: the order of arrival. alarm: the alarm that enqueued it; null for requests from outside. target: path and
    // query; null for an alarm that only wakes. headers: a JSON list of pairs, each byte of a value one character
    // (Latin-1). state: waiting | delivered | failed. The body is emptied on delivery. answer: the result of the last
    // attempt.
    "CREATE TABLE letters (
        id {uuid} PRIMARY KEY,
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        number bigint NOT NULL,
        alarm text,
        method text NOT NULL,
        path text NOT NULL,
        target text,
        headers text NOT NULL,
        body {bytes} NOT NULL,
        bytes bigint NOT NULL,
        state text NOT NULL,
        attempts bigint NOT NULL,
        arrived_at_ms bigint NOT NULL,
        try_at_ms bigint NOT NULL,
        give_up_at_ms bigint NOT NULL,
        done_at_ms bigint,
        answer text
    )",
    "CREATE INDEX letters_by_instance ON letters (instance_id, state, number)",
    // Either at_ms (rings once) or cron (repeats). due_at_ms: when the alarm rings next.
    "CREATE TABLE alarms (
        instance_id {uuid} NOT NULL REFERENCES instances(id),
        name text NOT NULL,
        at_ms bigint,
        cron text,
        path text,
        set_at_ms bigint NOT NULL,
        due_at_ms bigint NOT NULL,
        PRIMARY KEY (instance_id, name)
    )",
    "CREATE INDEX alarms_by_due ON alarms (due_at_ms)",
];
