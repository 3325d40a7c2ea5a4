//! Fair shares: a counting semaphore over a shared resource with a limit for each holder and a reserve, so that no
//! tenant or client can use up what all share (a bulkhead).
//!
//! The unit is the pool's own: a connection, a request in flight, a byte in memory. A claim never waits: a caller over
//! its share is refused at once, because a queue would let slow holders delay the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The bounds of a pool, in its unit.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Of all holders together.
    pub total: usize,
    /// The part of `total` that only claims with [`ClaimPriority::Reserved`] may use.
    pub reserve: usize,
}

/// Who holds a part of the pool, and how much that holder may have at a time.
#[derive(Clone, Debug)]
pub struct ShareHolder<K> {
    pub key: K,
    pub limit: usize,
}

/// Whether a claim may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPriority {
    Ordinary,
    /// For the operator, and for pages that people need when the rest of the pool is in use.
    Reserved,
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareRefusal {
    /// The holder has its whole share: the others are not affected.
    HolderAtLimit,
    /// Nothing is free for this priority.
    PoolExhausted,
}

/// A pool. Cheap to clone.
pub struct FairShare<K>(Arc<Pool<K>>);

/// A claimed part of a pool, given back on drop. `N` holders are charged for it, such as a network and the site it
/// belongs to.
pub struct SharePermit<K: Hash + Eq, const N: usize = 1> {
    pool: Arc<Pool<K>>,
    holders: [ShareHolder<K>; N],
    priority: ClaimPriority,
    amount: usize,
}

/// The current use of a pool, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    pub name: &'static str,
    pub total: usize,
    pub in_use: usize,
    /// Holders with a part of the pool.
    pub holders: usize,
    /// Claims refused since the start because of the holder's own limit.
    pub refused_at_limit: u64,
    /// Claims refused since the start because the pool was exhausted.
    pub refused_exhausted: u64,
}

struct Pool<K> {
    name: &'static str,
    limits: PoolLimits,
    state: Mutex<PoolState<K>>,
    refused_at_limit: AtomicU64,
    refused_exhausted: AtomicU64,
}

struct PoolState<K> {
    in_use: usize,
    // A holder without a part has no entry, so the map is bounded by `total`.
    held: HashMap<K, usize>,
}

impl<K> Clone for FairShare<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Hash + Eq + Clone> FairShare<K> {
    /// A pool of which nothing is in use. `name` is its label in metrics.
    #[must_use]
    pub fn new(name: &'static str, limits: PoolLimits) -> Self {
        let state = Mutex::new(PoolState { in_use: 0, held: HashMap::new() });
        let (refused_at_limit, refused_exhausted) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Pool { name, limits, state, refused_at_limit, refused_exhausted }))
    }

    /// Claims `amount` for every one of `holders`, or for none.
    ///
    /// # Errors
    /// The reason of the refusal; the holder's own limit is checked first.
    pub fn claim<const N: usize>(
        &self,
        holders: [ShareHolder<K>; N],
        priority: ClaimPriority,
        amount: usize,
    ) -> Result<SharePermit<K, N>, ShareRefusal> {
        self.0.take(&holders, priority, amount)?;
        Ok(SharePermit { pool: Arc::clone(&self.0), holders, priority, amount })
    }

    /// The current use.
    #[must_use]
    pub fn usage(&self) -> PoolUsage {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        PoolUsage {
            name: self.0.name,
            total: self.0.limits.total,
            in_use: state.in_use,
            holders: state.held.len(),
            refused_at_limit: self.0.refused_at_limit.load(Ordering::Relaxed),
            refused_exhausted: self.0.refused_exhausted.load(Ordering::Relaxed),
        }
    }
}

impl<K: Hash + Eq + Clone> Pool<K> {
    fn take(&self, holders: &[ShareHolder<K>], priority: ClaimPriority, amount: usize) -> Result<(), ShareRefusal> {
        let result = self.try_take(holders, priority, amount);
        match result {
            Ok(()) => {}
            Err(ShareRefusal::HolderAtLimit) => _ = self.refused_at_limit.fetch_add(1, Ordering::Relaxed),
            Err(ShareRefusal::PoolExhausted) => _ = self.refused_exhausted.fetch_add(1, Ordering::Relaxed),
        }
        result
    }

    fn try_take(&self, holders: &[ShareHolder<K>], priority: ClaimPriority, amount: usize) -> Result<(), ShareRefusal> {
        let open_to = match priority {
            ClaimPriority::Ordinary => self.limits.total.saturating_sub(self.limits.reserve),
            ClaimPriority::Reserved => self.limits.total,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // All checks come before the first change: a claim is for every holder or for none.
        for holder in holders {
            let held = state.held.get(&holder.key).copied().unwrap_or(0);
            if held.saturating_add(amount) > holder.limit {
                return Err(ShareRefusal::HolderAtLimit);
            }
        }
        if state.in_use.saturating_add(amount) > open_to {
            return Err(ShareRefusal::PoolExhausted);
        }
        state.in_use += amount;
        for holder in holders {
            *state.held.entry(holder.key.clone()).or_default() += amount;
        }
        Ok(())
    }
}

impl<K: Hash + Eq> Pool<K> {
    fn give_back(&self, holders: &[ShareHolder<K>], amount: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_use -= amount;
        for holder in holders {
            let Some(held) = state.held.get_mut(&holder.key) else { continue };
            *held -= amount;
            if *held == 0 {
                state.held.remove(&holder.key);
            }
        }
    }
}

impl<K: Hash + Eq + Clone, const N: usize> SharePermit<K, N> {
    /// Claims `amount` more for the same holders. What is claimed already stays when it is refused.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn grow(&mut self, amount: usize) -> Result<(), ShareRefusal> {
        self.pool.take(&self.holders, self.priority, amount)?;
        self.amount += amount;
        Ok(())
    }

    /// What this permit holds.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl<K: Hash + Eq, const N: usize> Drop for SharePermit<K, N> {
    fn drop(&mut self) {
        self.pool.give_back(&self.holders, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: PoolLimits = PoolLimits { total: 10, reserve: 2 };

    fn holder(key: &'static str, limit: usize) -> [ShareHolder<&'static str>; 1] {
        [ShareHolder { key, limit }]
    }

    fn claim(
        pool: &FairShare<&'static str>,
        key: &'static str,
        amount: usize,
    ) -> Result<SharePermit<&'static str>, ShareRefusal> {
        pool.claim(holder(key, 5), ClaimPriority::Ordinary, amount)
    }

    #[test]
    fn a_holder_at_its_limit_leaves_the_rest_to_others() {
        let pool = FairShare::new("test", LIMITS);
        let mut held = claim(&pool, "a", 4).unwrap();
        held.grow(1).unwrap();
        assert_eq!(held.grow(1), Err(ShareRefusal::HolderAtLimit));
        assert_eq!(claim(&pool, "a", 1).err(), Some(ShareRefusal::HolderAtLimit));
        let _others = claim(&pool, "b", 3).unwrap();
        drop(held);
        assert_eq!(pool.usage().in_use, 3);
        claim(&pool, "a", 5).unwrap();
    }

    #[test]
    fn ordinary_claims_leave_the_reserve() {
        let pool = FairShare::new("test", LIMITS);
        let _held = (claim(&pool, "a", 5).unwrap(), claim(&pool, "b", 3).unwrap());
        assert_eq!(claim(&pool, "c", 1).err(), Some(ShareRefusal::PoolExhausted));
        let reserved = pool.claim(holder("operator", 5), ClaimPriority::Reserved, 2).unwrap();
        assert_eq!(pool.usage().in_use, 10);
        drop(reserved);
        let usage = pool.usage();
        assert_eq!((usage.in_use, usage.holders, usage.refused_exhausted), (8, 2, 1));
    }

    #[test]
    fn a_refused_claim_for_several_holders_charges_none_of_them() {
        let pool = FairShare::new("test", LIMITS);
        let site = ShareHolder { key: "site", limit: 3 };
        let of = |key| [ShareHolder { key, limit: 2 }, site.clone()];
        let _first = pool.claim(of("network"), ClaimPriority::Ordinary, 2).unwrap();
        assert!(pool.claim(of("other"), ClaimPriority::Ordinary, 2).is_err());
        let second = pool.claim(of("other"), ClaimPriority::Ordinary, 1).unwrap();
        assert_eq!(second.amount(), 1);
        assert_eq!(pool.usage().in_use, 3);
    }

    proptest! {
        #[test]
        fn nothing_is_in_use_once_every_permit_is_dropped(claims in prop::collection::vec((0_u8..4, 0_usize..6), 0..40)) {
            let pool = FairShare::new("test", LIMITS);
            let mut permits = Vec::new();
            for (key, amount) in claims {
                let holders = [ShareHolder { key, limit: 5 }];
                if let Ok(permit) = pool.claim(holders, ClaimPriority::Ordinary, amount) {
                    permits.push(permit);
                }
                let usage = pool.usage();
                prop_assert!(usage.in_use <= LIMITS.total - LIMITS.reserve);
                prop_assert_eq!(usage.in_use, permits.iter().map(SharePermit::amount).sum::<usize>());
            }
            permits.clear();
            prop_assert_eq!(pool.usage().in_use, 0);
            prop_assert_eq!(pool.usage().holders, 0);
        }
    }
}
