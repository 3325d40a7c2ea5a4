//! Sessions: created at login, looked up for every request, ended by their owner or by a timeout.

use std::time::Duration;

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::{self, Token};

use super::rules::{self, SessionLifetime};
use super::session_cache::{CacheGeneration, CachedSession};
use super::store::{self, AuditEntry, StoredAccount, StoredSession};
use super::{AccountState, Accounts, Client, NewSession, Role, Session, SessionView};
use crate::db::{SessionId, Tx};

/// Most sessions of one account on one host. Another one evicts the oldest.
pub(super) const MOST_SESSIONS: u64 = 50;
/// Debounce of a session's last use: at most one write a minute.
const LAST_USE_PRECISION: Duration = Duration::from_secs(60);

/// The factors that a login used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogInMethod {
    SignUp,
    Passkey,
    PasskeyAndCode,
    Recovery,
}

impl LogInMethod {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Passkey => "passkey",
            Self::PasskeyAndCode => "passkey_and_code",
            Self::Recovery => "recovery",
        }
    }

    fn audit_word(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Passkey | Self::PasskeyAndCode => "log_in",
            Self::Recovery => "recover",
        }
    }
}

impl Accounts {
    /// The session of a cookie on the host `audience` (without port). Cached for up to two seconds.
    pub async fn authenticate(&self, audience: &str, token: &str) -> Result<Option<Session>> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        match self.0.session_cache.get(audience, &hash, now) {
            Ok(session) => Ok(Some(session)),
            // Boxed: the future of the database path is large, and inlined it would enlarge the future of every
            // request, including those that the cache answers.
            Err(generation) => Box::pin(self.authenticate_uncached(audience, hash, now, generation)).await,
        }
    }

    async fn authenticate_uncached(
        &self,
        audience: &str,
        hash: Vec<u8>,
        now: Timestamp,
        generation: CacheGeneration,
    ) -> Result<Option<Session>> {
        let Some((stored, person)) = self.look_up(audience, &hash, now).await? else { return Ok(None) };
        if let Err(error) = self.note_use(&stored, now).await {
            // Availability first: a busy database or a full disk must not log everyone out.
            tracing::warn!(session.id = %stored.id, error = ?error, "could not store the last use of a session");
        }
        let deletion_scheduled = person.state == AccountState::Deleting;
        let session =
            Session { id: stored.id, account: person.id, handle: person.handle, role: person.role, deletion_scheduled };
        let entry = CachedSession {
            session: session.clone(),
            audience: audience.to_owned(),
            read_at: now,
            expires_at: stored.expires_at,
        };
        self.0.session_cache.insert(generation, hash, entry);
        Ok(Some(session))
    }

    /// Whether the session of a cookie on the host `audience` is still valid. Unlike [`Accounts::authenticate`] this is
    /// not a use: a forgotten tab that polls every few seconds must not extend the idle timeout.
    pub async fn is_live(&self, audience: &str, token: &str) -> Result<bool> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        if self.0.session_cache.get(audience, &hash, now).is_ok() {
            return Ok(true);
        }
        Ok(Box::pin(self.look_up(audience, &hash, now)).await?.is_some())
    }

    /// Ends the session, and every session on an instance's host that was derived from it. Idempotent.
    pub async fn log_out(&self, session: &Session) -> Result<()> {
        match self.end_and_record(session, session.id, "log_out").await {
            // Another request ended the session first.
            Err(Error::NotFound) => Ok(()),
            other => other,
        }
    }

    /// The account's sessions on the app host, the current one first.
    pub async fn sessions(&self, current: &Session) -> Result<Vec<SessionView>> {
        let now = self.0.clock.now();
        let stored = store::sessions_of(self.0.db.read(), current.account, &self.0.hosts.app).await?;
        let mut views: Vec<SessionView> = stored
            .into_iter()
            .filter(|s| self.is_within_timeouts(s, current.role, now))
            .map(|s| SessionView {
                current: s.id == current.id,
                id: s.id,
                device: s.user_agent,
                ip: s.ip,
                created_at: s.created_at,
                last_used_at: s.last_used_at,
            })
            .collect();
        views.sort_by_key(|view| !view.current);
        Ok(views)
    }

    /// Ends one of the caller's sessions.
    ///
    /// # Errors
    /// `NotFound` when the caller has no such session.
    pub async fn session_end(&self, current: &Session, id: SessionId) -> Result<()> {
        self.end_and_record(current, id, "session_end").await
    }

    async fn end_and_record(&self, by: &Session, id: SessionId, action: &str) -> Result<()> {
        let tx = self.0.db.begin().await?;
        if !store::end_session(&tx, by.account, id).await? {
            return Err(Error::NotFound);
        }
        let handle = by.handle.as_str();
        let entry = AuditEntry { actor: handle, action, subject: handle, detail: &id.to_string() };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.session_cache.invalidate(by.account);
        Ok(())
    }

    /// Opens a session and records it, in the caller's transaction. `device_hash` is the hash of the browser's device
    /// cookie.
    pub(super) async fn sign_in(
        &self,
        tx: &Tx,
        person: &StoredAccount,
        method: LogInMethod,
        client: &Client,
        device_hash: Option<&[u8]>,
    ) -> Result<NewSession> {
        // Both tokens are new at each login. A session cookie that an attacker planted (session fixation) never becomes
        // a login, and a stolen device cookie is worthless after its owner's next login.
        let (session, device) = (Token::new(&self.0.clock), Token::new(&self.0.clock));
        let now = self.0.clock.now();
        let SessionLifetime { overall, .. } = rules::lifetime(person.role);
        let stored = StoredSession {
            id: SessionId(self.0.clock.uuid()),
            account: person.id,
            audience: self.0.hosts.app.clone(),
            parent: None,
            method: method.as_str().to_owned(),
            user_agent: rules::device_name(&client.user_agent),
            ip: rules::shorten(client.ip),
            created_at: now,
            last_used_at: now,
            expires_at: now.plus(overall),
            passkey_at: now,
        };
        store::insert_session(tx, session.hash(), &stored, MOST_SESSIONS).await?;
        if let Some(old) = device_hash {
            store::forget_device(tx, person.id, old).await?;
        }
        store::insert_device(tx, person.id, device.hash(), now).await?;
        let (handle, detail) = (person.handle.as_str(), format!("{}, {}", stored.user_agent, stored.ip));
        let entry = AuditEntry { actor: handle, action: method.audit_word(), subject: handle, detail: &detail };
        store::record(tx, &self.0.clock, &entry).await?;
        Ok(NewSession { account: person.id, handle: person.handle.clone(), session, device })
    }

    async fn look_up(
        &self,
        audience: &str,
        hash: &[u8],
        now: Timestamp,
    ) -> Result<Option<(StoredSession, StoredAccount)>> {
        let db = self.0.db.read();
        let Some(stored) = store::session_by_token(db, audience, hash).await? else { return Ok(None) };
        let Some(person) = store::account_by_id(db, stored.account).await? else { return Ok(None) };
        if !self.is_within_timeouts(&stored, person.role, now) {
            self.delete_timed_out(&stored).await;
            return Ok(None);
        }
        // While the account is scheduled for deletion, its owner may use the app host to cancel that. Sessions on the
        // instance's host have a parent; the instance is closed.
        let welcome =
            person.state == AccountState::Active || (person.state == AccountState::Deleting && stored.parent.is_none());
        Ok(welcome.then_some((stored, person)))
    }

    /// Deletes a session that timed out. Best effort: the session is refused even if the row cannot be deleted.
    async fn delete_timed_out(&self, stored: &StoredSession) {
        // Comparing timestamps is not enough: if the clock is later set back, the session would be valid again.
        self.0.session_cache.invalidate(stored.account);
        let ended = async {
            let tx = self.0.db.begin().await?;
            store::end_session(&tx, stored.account, stored.id).await?;
            tx.commit().await
        };
        if let Err(error) = ended.await {
            tracing::warn!(session.id = %stored.id, error = ?error, "could not delete a session that timed out");
        }
    }

    /// Whether neither the absolute nor the idle timeout of the session has passed.
    fn is_within_timeouts(&self, stored: &StoredSession, role: Role, now: Timestamp) -> bool {
        let idle = now.since(stored.last_used_at) >= rules::lifetime(role).idle;
        // The idle timeout protects the app host, where an admin can do harm. A session on an instance's host opens
        // only that instance and lasts at most 12 hours; an idle timeout there would interrupt people at work.
        stored.expires_at > now && (stored.parent.is_some() || !idle)
    }

    /// Stores the time of the session's last use, where the idle timeout needs it.
    async fn note_use(&self, stored: &StoredSession, now: Timestamp) -> Result<()> {
        // Not for a session on an instance's host: the write would put the disk on the path of every wake.
        if stored.parent.is_some() || now.since(stored.last_used_at) < LAST_USE_PRECISION {
            return Ok(());
        }
        let tx = self.0.db.begin().await?;
        store::touch_session(&tx, stored.id, now, now.minus(LAST_USE_PRECISION)).await?;
        tx.commit().await
    }

    /// Reads the caller's session from the database, bypassing the cache. `Forbidden` unless it is on the app host.
    pub(super) async fn app_session(&self, session: &Session) -> Result<StoredSession> {
        let stored = store::session(self.0.db.read(), session.id).await?.ok_or(Error::Unauthenticated)?;
        if stored.audience != self.0.hosts.app {
            return Err(Error::Forbidden("Please do this on the Berth site itself, not on your instance's.".into()));
        }
        if !self.is_within_timeouts(&stored, session.role, self.0.clock.now()) {
            return Err(Error::Unauthenticated);
        }
        Ok(stored)
    }
}
