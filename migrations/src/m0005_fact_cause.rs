//! The cause of an instance's observed fact.

// Unknown for older rows, until their next change of fact.
pub(crate) const STATEMENTS: &[&str] =
    &["ALTER TABLE instances ADD COLUMN fact_cause text NOT NULL DEFAULT 'found_so'"];
