//! Sessions: opened at a login, asked for with every request, ended by their owner or by time.

use std::time::Duration;

use super::rules::{self, Lifetime};
use super::session_memory::Since;
use super::store::{self, Person, State, StoredSession};
use super::{Accounts, Client, Role, Session, SessionView, SignedIn};
use crate::clock::Timestamp;
use crate::db::{SessionId, Tx};
use crate::error::{Error, Result};
use crate::secrets::{self, Token};

/// Sessions of one account on one host; a further one ends the oldest.
pub(super) const MOST_SESSIONS: u64 = 50;
/// How exactly it is known when a session was last used: one write a minute is enough.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    SignUp,
    Passkey,
    PasskeyAndCode,
    Recovery,
}

impl Method {
    pub(super) fn word(self) -> &'static str {
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
    /// Who holds this cookie of `audience` (a hostname without port). Answered from memory for up to two seconds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn authenticate(&self, audience: &str, token: &str) -> Result<Option<Session>> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        match self.0.memory.recall(audience, &hash, now) {
            Ok(session) => Ok(Some(session)),
            // Apart, so that a request which needs no database does not carry its room along.
            Err(since) => Box::pin(self.authenticate_anew(audience, hash, now, since)).await,
        }
    }

    async fn authenticate_anew(
        &self,
        audience: &str,
        hash: Vec<u8>,
        now: Timestamp,
        since: Since,
    ) -> Result<Option<Session>> {
        let Some((stored, person)) = self.look_up(audience, &hash, now).await? else { return Ok(None) };
        if let Err(error) = self.note_use(&stored, now).await {
            // The session stands all the same: a busy or full database must not log everyone out.
            tracing::warn!(session.id = %stored.id, error = ?error, "could not note that a session was used");
        }
        let leaving = person.state == State::Leaving;
        let session = Session { id: stored.id, account: person.id, handle: person.handle, role: person.role, leaving };
        self.0.memory.remember(since, hash, session.clone(), (audience, now, stored.expires_at));
        Ok(Some(session))
    }

    /// Whether this cookie of `audience` still counts. Unlike [`Accounts::authenticate`] it is no use of the session: a
    /// forgotten tab that asks every few seconds does not keep an idle login alive.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_live(&self, audience: &str, token: &str) -> Result<bool> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        if self.0.memory.recall(audience, &hash, now).is_ok() {
            return Ok(true);
        }
        Ok(Box::pin(self.look_up(audience, &hash, now)).await?.is_some())
    }

    /// Ends the session and every instance session that came from it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn log_out(&self, session: &Session) -> Result<()> {
        match self.end_and_record(session, session.id, "log_out").await {
            // Ended twice: the second time there is nothing left to do.
            Err(Error::NotFound) => Ok(()),
            other => other,
        }
    }

    /// The logins of an account on the app host, the current one first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sessions(&self, current: &Session) -> Result<Vec<SessionView>> {
        let now = self.0.clock.now();
        let stored = store::sessions_of(self.0.db.read(), current.account, &self.0.hosts.app).await?;
        let mut views: Vec<SessionView> = stored
            .into_iter()
            .filter(|s| self.stands(s, current.role, now))
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

    /// Ends one of the caller's own sessions. Another's is `NotFound`.
    ///
    /// # Errors
    /// `NotFound`, or when the database does not answer.
    pub async fn session_end(&self, current: &Session, id: SessionId) -> Result<()> {
        self.end_and_record(current, id, "session_end").await
    }

    async fn end_and_record(&self, by: &Session, id: SessionId, action: &str) -> Result<()> {
        let tx = self.0.db.begin().await?;
        if !store::end_session(&tx, by.account, id).await? {
            return Err(Error::NotFound);
        }
        let handle = by.handle.as_str();
        let entry = store::AuditEntry { actor: handle, action, subject: handle, detail: &id.to_string() };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        self.0.memory.forget(by.account);
        Ok(())
    }

    /// Everything that makes a browser logged in: session, device, audit, in the caller's transaction. `device_hash` is
    /// the device it came with, replaced by a new one.
    pub(super) async fn sign_in(
        &self,
        tx: &Tx,
        person: &Person,
        method: Method,
        client: &Client,
        device_hash: Option<&[u8]>,
    ) -> Result<SignedIn> {
        let (session, device) = (Token::new(&self.0.clock), Token::new(&self.0.clock));
        let now = self.0.clock.now();
        let Lifetime { overall, .. } = rules::lifetime(person.role);
        let stored = StoredSession {
            id: SessionId(self.0.clock.uuid()),
            account: person.id,
            audience: self.0.hosts.app.clone(),
            parent: None,
            method: method.word().to_owned(),
            user_agent: rules::device_words(&client.user_agent),
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
        let entry = store::AuditEntry { actor: handle, action: method.audit_word(), subject: handle, detail: &detail };
        store::record(tx, &self.0.clock, &entry).await?;
        Ok(SignedIn { account: person.id, handle: person.handle.clone(), session, device })
    }

    async fn look_up(&self, audience: &str, hash: &[u8], now: Timestamp) -> Result<Option<(StoredSession, Person)>> {
        let db = self.0.db.read();
        let Some(stored) = store::session_with(db, audience, hash).await? else { return Ok(None) };
        let Some(person) = store::person(db, stored.account).await? else { return Ok(None) };
        if !self.stands(&stored, person.role, now) {
            self.end_for_good(&stored).await;
            return Ok(None);
        }
        // Who leaves may still come to the app host, to stay; their instance is closed.
        let welcome = person.state == State::Active || (person.state == State::Leaving && stored.parent.is_none());
        Ok(welcome.then_some((stored, person)))
    }

    /// What has been refused as too old must not come back when the clock is set back. A row that cannot be deleted now is
    /// refused all the same.
    async fn end_for_good(&self, stored: &StoredSession) {
        self.0.memory.forget(stored.account);
        let ended = async {
            let tx = self.0.db.begin().await?;
            store::end_session(&tx, stored.account, stored.id).await?;
            tx.commit().await
        };
        if let Err(error) = ended.await {
            tracing::warn!(session.id = %stored.id, error = ?error, "could not delete a session that is over");
        }
    }

    /// Idleness ends a session on the app host, where an admin may do harm. One on an instance's host opens only that
    /// instance and has its 12 hours, so that working there for an hour does not ask for another login.
    fn stands(&self, stored: &StoredSession, role: Role, now: Timestamp) -> bool {
        let idle = now.since(stored.last_used_at) >= rules::lifetime(role).idle;
        stored.expires_at > now && (stored.parent.is_some() || !idle)
    }

    /// Only where idleness counts: on an instance's host a write, and the disk with it, would stand before every wake.
    async fn note_use(&self, stored: &StoredSession, now: Timestamp) -> Result<()> {
        if stored.parent.is_some() || now.since(stored.last_used_at) < USE_NOTED_EVERY {
            return Ok(());
        }
        let tx = self.0.db.begin().await?;
        store::touch_session(&tx, stored.id, now, now.minus(USE_NOTED_EVERY)).await?;
        tx.commit().await
    }

    /// The caller's session on the app host, from the database and still live. `Forbidden` for one of an instance's host.
    pub(super) async fn app_session(&self, session: &Session) -> Result<StoredSession> {
        let stored = store::session(self.0.db.read(), session.id).await?.ok_or(Error::Unauthenticated)?;
        if stored.audience != self.0.hosts.app {
            return Err(Error::Forbidden("Please do this on the Berth site itself, not on your instance's.".into()));
        }
        if !self.stands(&stored, session.role, self.0.clock.now()) {
            return Err(Error::Unauthenticated);
        }
        Ok(stored)
    }
}
