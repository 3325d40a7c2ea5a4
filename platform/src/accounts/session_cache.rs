//! The session cache, with a time to live of two seconds: a page that makes fifty requests queries the database once.
//!
//! Ending a session in this process invalidates its entry at once. The number of entries is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use berth_ground::clock::Timestamp;

use super::session::Session;
use crate::db::AccountId;

/// Time to live of an entry: how long a session that another process ended still works here.
const TIME_TO_LIVE: Duration = Duration::from_secs(2);
/// The number of entries at which all are evicted: with a time to live of two seconds a cold cache costs little.
const MOST_ENTRIES: usize = 10_000;

#[derive(Default)]
pub(super) struct SessionCache(Mutex<CacheState>);

#[derive(Default)]
struct CacheState {
    /// Keyed by the hash of the cookie's token, so that the cache holds no usable cookie.
    sessions: HashMap<Vec<u8>, CachedSession>,
    /// The number of invalidations so far.
    generation: u64,
}

pub(super) struct CachedSession {
    pub(super) session: Session,
    /// The host name for which the cookie is valid.
    pub(super) audience: String,
    /// When the session was read from the database.
    pub(super) read_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// The cache generation before a session was read from the database. If it changed meanwhile, the read may be stale.
#[derive(Clone, Copy)]
pub(super) struct CacheGeneration(u64);

impl SessionCache {
    /// The cached session; on a miss, the current generation, to be passed to [`SessionCache::insert`] after the read.
    pub(super) fn get(&self, audience: &str, hash: &[u8], now: Timestamp) -> Result<Session, CacheGeneration> {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache
            .sessions
            .get(hash)
            .filter(|r| r.audience == audience && r.expires_at > now)
            // `read_at <= now`: after the clock was set back, an entry would otherwise live until the clock catches up.
            .filter(|r| r.read_at <= now && now.since(r.read_at) < TIME_TO_LIVE)
            .map(|r| r.session.clone())
            .ok_or(CacheGeneration(cache.generation))
    }

    /// Caches a session that was read from the database, unless an entry was invalidated since `before`.
    pub(super) fn insert(&self, before: CacheGeneration, hash: Vec<u8>, entry: CachedSession) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Race: this request reads the session, another request ends it and invalidates the entry, and only then this
        // one inserts its stale read. Without the comparison the ended session would live for another two seconds. Any
        // invalidation counts, not only one of this session: that costs a query and saves a second map.
        if cache.generation != before.0 {
            return;
        }
        if cache.sessions.len() >= MOST_ENTRIES {
            cache.sessions.clear();
        }
        cache.sessions.insert(hash, entry);
    }

    /// Invalidates every session of `account`. Must be called after the commit that ended one: before it, another
    /// request could read the old row and cache it again.
    pub(super) fn invalidate(&self, account: AccountId) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.generation += 1;
        cache.sessions.retain(|_, r| r.session.account != account);
    }
}
