//! Indexes for the spending of all accounts by month and by day.

pub(crate) const STATEMENTS: &[&str] =
    &["CREATE INDEX allowances_by_period ON allowances (period)", "CREATE INDEX spend_by_day ON spend_days (day)"];
