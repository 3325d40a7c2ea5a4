//! Quota alerts: allowances that are 80 or 100 percent spent, and whether their owner was notified.

pub(crate) const STATEMENTS: &[&str] = &[
    // period: a month, 2026-11, or a day, 2026-11-25. percent: 80 | 100. told_at_ms: null until the background job has
    // notified the owner.
    "CREATE TABLE quota_alerts (
        account_id {uuid} NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
        period text NOT NULL,
        percent bigint NOT NULL,
        allowance_nanodollars bigint NOT NULL,
        spent_nanodollars bigint NOT NULL,
        raised_at_ms bigint NOT NULL,
        told_at_ms bigint,
        PRIMARY KEY (account_id, period, percent)
    )",
    "CREATE INDEX quota_alerts_untold ON quota_alerts (raised_at_ms) WHERE told_at_ms IS NULL",
];
