//! What the webhooks knows without asking the database: open paths, how much is kept, and who is to be looked at when.

use std::collections::HashMap;

use super::rules::{MOST_BYTES, MOST_BYTES_OF_ALL, MOST_LETTERS};
use super::store::Kept;
use super::{Counts, OpenPath, State};
use crate::clock::Timestamp;
use crate::db::InstanceId;

/// Every instance's shelf.
#[derive(Default)]
pub(super) struct Memory {
    shelves: HashMap<InstanceId, Shelf>,
    bytes: u64,
}

/// What is known of one instance.
pub(super) struct Shelf {
    pub paths: Vec<OpenPath>,
    pub counts: Counts,
    /// When its letters are to be looked at.
    pub look_at: Option<Timestamp>,
    /// When letters last woke it; the beginning of time when they never did.
    pub woke_at: Timestamp,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { paths: Vec::new(), counts: Counts::default(), look_at: None, woke_at: Timestamp(0) }
    }
}

impl Memory {
    pub(super) fn shelf(&mut self, instance: InstanceId) -> &mut Shelf {
        self.shelves.entry(instance).or_default()
    }

    /// Looks without making a shelf: anybody may ask for any path.
    pub(super) fn look<T: Default>(&self, instance: InstanceId, look: impl FnOnce(&Shelf) -> T) -> T {
        self.shelves.get(&instance).map_or_else(T::default, look)
    }

    /// Takes in what the database holds.
    pub(super) fn read(&mut self, instance: InstanceId, state: State, kept: Kept, try_at: Timestamp) {
        if state == State::Delivered {
            return;
        }
        self.bytes += kept.bytes;
        let shelf = self.shelf(instance);
        shelf.counts.bytes += kept.bytes;
        match state {
            State::Waiting => {
                shelf.counts.waiting = kept.letters;
                shelf.look_at = Some(try_at);
            }
            State::Failed => shelf.counts.failed = kept.letters,
            State::Delivered => {}
        }
    }

    /// Counts a letter that is about to be written, or says why there is no room for it.
    pub(super) fn set_aside(&mut self, instance: InstanceId, bytes: u64) -> Result<(), &'static str> {
        if self.bytes + bytes > MOST_BYTES_OF_ALL {
            return Err("This server keeps as much mail as it can. Please try again later.");
        }
        let counts = &mut self.shelf(instance).counts;
        if counts.waiting + counts.failed >= MOST_LETTERS || counts.bytes + bytes > MOST_BYTES {
            return Err(
                "The webhooks of this instance is full. Its owner can see why on the dashboard; please try again later.",
            );
        }
        counts.waiting += 1;
        counts.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// A letter is no longer kept.
    pub(super) fn give_back(&mut self, instance: InstanceId, state: State, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        let counts = &mut self.shelf(instance).counts;
        counts.bytes = counts.bytes.saturating_sub(bytes);
        match state {
            State::Waiting => counts.waiting = counts.waiting.saturating_sub(1),
            State::Failed => counts.failed = counts.failed.saturating_sub(1),
            State::Delivered => {}
        }
    }

    /// One that waited failed.
    pub(super) fn fail(&mut self, instance: InstanceId) {
        let counts = &mut self.shelf(instance).counts;
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.failed += 1;
    }

    /// One that failed waits again.
    pub(super) fn unfail(&mut self, instance: InstanceId) {
        let counts = &mut self.shelf(instance).counts;
        counts.failed = counts.failed.saturating_sub(1);
        counts.waiting += 1;
    }

    /// Names the instance at `at`, unless that is sooner anyway.
    pub(super) fn look_at(&mut self, instance: InstanceId, at: Timestamp) {
        let look_at = &mut self.shelf(instance).look_at;
        *look_at = Some(look_at.map_or(at, |before| before.min(at)));
    }

    /// Those whose moment has come, each once.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<InstanceId> {
        let due = self.shelves.iter_mut().filter(|(_, shelf)| shelf.look_at.is_some_and(|at| at <= now));
        due.map(|(instance, shelf)| {
            shelf.look_at = None;
            *instance
        })
        .collect()
    }

    pub(super) fn all(&self) -> Counts {
        self.shelves.values().fold(Counts::default(), |all, shelf| Counts {
            waiting: all.waiting + shelf.counts.waiting,
            failed: all.failed + shelf.counts.failed,
            bytes: all.bytes + shelf.counts.bytes,
        })
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        if let Some(shelf) = self.shelves.remove(&instance) {
            self.bytes = self.bytes.saturating_sub(shelf.counts.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_shelf_holds_so_many_letters_and_bytes_and_everybodys_together_no_more_than_the_disk_bears() {
        let mut memory = Memory::default();
        let instance = |n| InstanceId(Uuid::from_u128(n));
        for _ in 0..MOST_LETTERS {
            memory.set_aside(instance(1), 1).unwrap();
        }
        assert!(memory.set_aside(instance(1), 1).is_err());
        memory.fail(instance(1));
        assert!(memory.set_aside(instance(1), 1).is_err(), "a failed one is still kept");
        memory.give_back(instance(1), State::Failed, 1);
        memory.set_aside(instance(1), 1).unwrap();
        memory.set_aside(instance(2), MOST_BYTES).unwrap();
        assert!(memory.set_aside(instance(2), 1).is_err());
        let fit = (3..1000).filter(|n| memory.set_aside(instance(*n), MOST_BYTES).is_ok()).count() as u64;
        assert_eq!(fit, MOST_BYTES_OF_ALL / MOST_BYTES - 2);
        memory.forget(instance(2));
        memory.set_aside(instance(2000), MOST_BYTES).unwrap();
    }
}
