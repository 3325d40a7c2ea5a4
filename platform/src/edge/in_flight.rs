//! How many requests each instance has in flight here: one that answers nothing shall not hold everything open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::InstanceId;

/// Requests of one instance at a time, waiting ones and upgraded connections included.
pub(super) const MOST: usize = 256;
/// As many together while somebody else than the owner asks for one: the rest is kept for the owner.
pub(super) const MOST_WITH_VISITORS: usize = MOST / 2;

/// Who has how many.
#[derive(Clone, Default)]
pub(super) struct InFlightLimit(Arc<Mutex<HashMap<InstanceId, usize>>>);

/// One request's place, until it is dropped.
pub(super) struct InFlightPermit {
    places: InFlightLimit,
    instance: InstanceId,
}

impl InFlightLimit {
    /// `None` when the instance has `most` requests in flight.
    pub(super) fn take(&self, instance: InstanceId, most: usize) -> Option<InFlightPermit> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = taken.entry(instance).or_default();
        if *requests >= most {
            return None;
        }
        *requests += 1;
        Some(InFlightPermit { places: self.clone(), instance })
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = taken.get_mut(&self.instance) {
            *requests -= 1;
            if *requests == 0 {
                taken.remove(&self.instance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_its_own_places_and_gets_them_back() {
        let (places, alices, bobs) =
            (InFlightLimit::default(), InstanceId(uuid::Uuid::from_u128(1)), InstanceId(uuid::Uuid::from_u128(2)));
        let mut taken: Vec<InFlightPermit> = (0..MOST).map(|_| places.take(alices, MOST).unwrap()).collect();
        assert!(places.take(alices, MOST).is_none());
        let _ = places.take(bobs, MOST).unwrap();
        taken.pop();
        taken.push(places.take(alices, MOST).unwrap());
        assert!(places.take(alices, MOST).is_none());
        taken.clear();
        assert!(places.0.lock().unwrap().is_empty());
    }
}
