//! Which holds this process has in its hands: their calls are in flight, or over and about to be settled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::HoldId;

/// The set. Cheap to clone.
#[derive(Clone, Default)]
pub struct InHand(Arc<Mutex<HashSet<HoldId>>>);

/// Keeps one hold in the set for as long as it lives; it goes wherever the hold goes.
pub struct Mark {
    hold: HoldId,
    all: InHand,
}

impl InHand {
    /// Takes `hold` in hand. To be called before its row is written, so that no row is seen without its mark.
    #[must_use]
    pub fn take(&self, hold: HoldId) -> Mark {
        self.with(|holds| holds.insert(hold));
        Mark { hold, all: self.clone() }
    }

    pub fn contains(&self, hold: HoldId) -> bool {
        self.with(|holds| holds.contains(&hold))
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashSet<HoldId>) -> T) -> T {
        // No panic can leave a set of ids half changed.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.all.with(|holds| holds.remove(&self.hold));
    }
}
