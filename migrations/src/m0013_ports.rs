//! Additional ports of an instance that its owner opened.

pub(crate) const STATEMENTS: &[&str] = &[
    // In the displayed form: `3000, 8000-8003`; empty for none.
    "ALTER TABLE instances ADD COLUMN ports text NOT NULL DEFAULT ''",
];
