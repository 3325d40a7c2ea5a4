//! Correction receipts: their reason, and an index by the receipt that they correct. Also who imported a price table,
//! and who activated it.

pub(crate) const STATEMENTS: &[&str] = &[
    // The reason for the amount of a correction; empty for most receipts.
    "ALTER TABLE receipts ADD COLUMN reason text NOT NULL DEFAULT ''",
    "CREATE INDEX receipts_corrections ON receipts (corrects) WHERE corrects IS NOT NULL",
    "ALTER TABLE price_versions ADD COLUMN imported_by text NOT NULL DEFAULT ''",
    "ALTER TABLE price_versions ADD COLUMN chosen_by text NOT NULL DEFAULT ''",
];
