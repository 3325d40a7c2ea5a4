//! The concurrency limit per instance: bounds the requests in flight, so that a program that never answers cannot
//! exhaust the platform's memory and connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::InstanceId;

/// Requests to one instance at a time, including those held while it wakes and upgraded connections.
pub(super) const MOST: usize = 256;
/// The limit for guests and strangers, compared with the count of all requests in flight. The other half thus stays
/// free for the owner.
pub(super) const MOST_WITH_VISITORS: usize = MOST / 2;

/// Counts the requests in flight of each instance that has any.
#[derive(Clone, Default)]
pub(super) struct InFlightLimit(Arc<Mutex<HashMap<InstanceId, usize>>>);

/// One request in flight; dropping it ends the count.
pub(super) struct InFlightPermit {
    limit: InFlightLimit,
    instance: InstanceId,
}

impl InFlightLimit {
    /// Takes a permit; `None` when the instance has `most` requests in flight already.
    pub(super) fn acquire(&self, instance: InstanceId, most: usize) -> Option<InFlightPermit> {
        // A map instead of a semaphore for each instance: the limit depends on the visitor, and idle instances cost
        // nothing.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = counts.entry(instance).or_default();
        if *requests >= most {
            return None;
        }
        *requests += 1;
        Some(InFlightPermit { limit: self.clone(), instance })
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut counts = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = counts.get_mut(&self.instance) {
            *requests -= 1;
            if *requests == 0 {
                counts.remove(&self.instance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_its_own_limit_and_gets_permits_back() {
        let (limit, alices, bobs) =
            (InFlightLimit::default(), InstanceId(uuid::Uuid::from_u128(1)), InstanceId(uuid::Uuid::from_u128(2)));
        let mut held: Vec<InFlightPermit> = (0..MOST).map(|_| limit.acquire(alices, MOST).unwrap()).collect();
        assert!(limit.acquire(alices, MOST).is_none());
        let _ = limit.acquire(bobs, MOST).unwrap();
        held.pop();
        held.push(limit.acquire(alices, MOST).unwrap());
        assert!(limit.acquire(alices, MOST).is_none());
        held.clear();
        assert!(limit.0.lock().unwrap().is_empty());
    }
}
