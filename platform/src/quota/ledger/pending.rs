//! The count of corrections that were accepted and are not in the database yet.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Corrections that were accepted and are not in the database yet. While there are any, the database does not show
/// the total of a receipt, and no further correction is accepted.
#[derive(Debug, Default)]
pub struct PendingCorrections(AtomicUsize);

impl PendingCorrections {
    /// A correction was accepted.
    pub fn begun(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// `count` corrections have reached the database.
    pub fn ended(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}
