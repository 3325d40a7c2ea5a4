//! Sessions remembered for two seconds, so that a page with fifty requests asks the database once. Bounded; whatever ends
//! a session in this process forgets it here at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Session;
use crate::clock::Timestamp;
use crate::db::AccountId;

/// How stale an answer may be: how long a session ended by another process still works here.
const REMEMBERED_FOR: Duration = Duration::from_secs(2);
/// Sessions remembered at once.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct SessionCache(Mutex<CacheState>);

#[derive(Default)]
struct CacheState {
    /// By the hash of the cookie's token.
    sessions: HashMap<Vec<u8>, CachedSession>,
    /// Grows whenever something is forgotten.
    forgotten: u64,
}

struct CachedSession {
    session: Session,
    audience: String,
    at: Timestamp,
    expires_at: Timestamp,
}

/// What had been forgotten when a session was looked up: says whether the answer is still worth remembering.
#[derive(Clone, Copy)]
pub(super) struct CacheGeneration(u64);

impl SessionCache {
    /// The session if it was looked up just now; else a mark to take before looking it up.
    pub(super) fn recall(&self, audience: &str, hash: &[u8], now: Timestamp) -> Result<Session, CacheGeneration> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory
            .sessions
            .get(hash)
            .filter(|r| r.audience == audience && r.expires_at > now)
            // A clock that was set back must not keep an answer alive.
            .filter(|r| r.at <= now && now.since(r.at) < REMEMBERED_FOR)
            .map(|r| r.session.clone())
            .ok_or(CacheGeneration(memory.forgotten))
    }

    /// Keeps what was looked up, unless something was forgotten meanwhile: it could have been this.
    pub(super) fn remember(
        &self,
        since: CacheGeneration,
        hash: Vec<u8>,
        session: Session,
        (audience, now, expires_at): (&str, Timestamp, Timestamp),
    ) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.forgotten != since.0 {
            return;
        }
        if memory.sessions.len() >= MOST {
            memory.sessions.clear();
        }
        memory.sessions.insert(hash, CachedSession { session, audience: audience.to_owned(), at: now, expires_at });
    }

    /// Forgets every session of `account`. Call it after the commit that ended one.
    pub(super) fn forget(&self, account: AccountId) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forgotten += 1;
        memory.sessions.retain(|_, r| r.session.account != account);
    }
}
