//! Hand-off: from a login on the app host to a session on the host of an instance, one's own or one that was opened to one,
//! without a cookie that both could read.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::sessions::MOST_SESSIONS;
use super::store::{self, Purpose, State, StoredSession};
use super::{Accounts, Client, Session, rules};
use crate::clock::Timestamp;
use crate::db::{SessionId, Tx};
use crate::error::{Error, Result};
use crate::hosts::{HostKind, VirtualHost};
use crate::secrets::{self, Token};

/// How long the browser has to bring the code to the instance's host.
const CODE_LIVES: Duration = Duration::from_secs(30);
/// How long a session on an instance's host lasts at most.
pub const SESSION_LIVES: Duration = Duration::from_secs(12 * 3600);
/// Longest state that is taken, in bytes; the edge sends 43.
const LONGEST_STATE: usize = 128;
/// SHA-256 in base64url without padding.
const CHALLENGE_LENGTH: usize = 43;

/// What a code is bound to.
#[derive(Serialize, Deserialize)]
struct Bound {
    audience: String,
    state: String,
    challenge: String,
    session: SessionId,
}

impl Accounts {
    /// Where a hand-off to `host` leads, if the caller may go there: to one's own instance, or to one of which something was
    /// opened to the caller.
    ///
    /// # Errors
    /// `Forbidden` for another's instance, also for one that does not exist; `NotFound` for a host that is no instance's.
    pub fn way_to(&self, session: &Session, host: &str) -> Result<VirtualHost> {
        let entrance = self.entrance(host).ok_or(Error::NotFound)?;
        if entrance.handle == session.handle || self.is_invited(session, &entrance) {
            return Ok(entrance);
        }
        // The same sentence for an instance that exists and one that does not, whatever is opened of it and to whom.
        Err(Error::Forbidden(format!(
            "{} opens only for its owner and for whom its owner lets in, and you are logged in as {}. Nothing was woken.",
            entrance.host, session.handle
        )))
    }

    /// A code for 30 seconds and one use, bound to the host, the state and the challenge (base64url of SHA-256 of the verifier).
    ///
    /// # Errors
    /// As [`Accounts::way_to`]; `Invalid` for a state or challenge of the wrong shape.
    pub async fn hand_off(&self, session: &Session, host: &str, state: &str, challenge: &str) -> Result<Token> {
        let audience = self.way_to(session, host)?.audience;
        if session.leaving {
            return Err(Error::Forbidden("This account leaves, and its instance sleeps until it is kept.".into()));
        }
        if state.is_empty() || state.len() > LONGEST_STATE {
            return Err(Error::invalid(
                "state",
                "This link is not complete. Please open your instance's address again.",
            ));
        }
        if URL_SAFE_NO_PAD.decode(challenge).map_or(0, |c| c.len()) != 32 || challenge.len() != CHALLENGE_LENGTH {
            return Err(Error::invalid(
                "challenge",
                "This link is not complete. Please open your instance's address again.",
            ));
        }
        self.app_session(session).await?;
        let bound = Bound { audience, state: state.to_owned(), challenge: challenge.to_owned(), session: session.id };
        let bound = serde_json::to_string(&bound).context("writing a hand-off")?;
        let code = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(CODE_LIVES);
        store::put_challenge(&tx, code.hash(), Purpose::HandOff, bound, until).await?;
        tx.commit().await?;
        Ok(code)
    }

    /// Swaps the code for a session on `host` that ends with its parent, or after 12 hours. `None`: wrong, used or expired.
    ///
    /// # Errors
    /// `TooMany` after sixty a minute from one address; or when the database does not answer.
    pub async fn hand_off_redeem(
        &self,
        host: &str,
        code: &str,
        state: &str,
        verifier: &str,
        client: &Client,
    ) -> Result<Option<Token>> {
        self.0.limits.hand_off(client.ip)?;
        let (hash, now) = (secrets::hash(code), self.0.clock.now());
        // Before the writer is asked for: anybody can send a code they made up.
        if store::peek_challenge(self.0.db.read(), &hash, Purpose::HandOff, now).await?.is_none() {
            return Ok(None);
        }
        let tx = self.0.db.begin().await?;
        let taken = store::take_challenge(&tx, &hash, Purpose::HandOff, now).await?;
        let bound: Option<Bound> = taken.map(|s| serde_json::from_str(&s)).transpose().context("reading a hand-off")?;
        let session = match bound.filter(|b| self.fits(b, host, state, verifier)) {
            Some(bound) => self.instance_session(&tx, bound, client, now).await?,
            None => None,
        };
        // Committed in any case: a code that was brought once is used up, right or wrong.
        tx.commit().await?;
        Ok(session)
    }

    /// Further ports are their owner's alone.
    fn is_invited(&self, session: &Session, entrance: &VirtualHost) -> bool {
        let instance = self.0.instances.by_handle(&entrance.handle).filter(|_| entrance.port.is_none());
        instance.is_some_and(|instance| self.0.sharing.invites(&instance, &session.handle))
    }

    fn entrance(&self, host: &str) -> Option<VirtualHost> {
        match self.0.hosts.classify(host) {
            Some(HostKind::Instance(handle)) => Some(self.0.hosts.virtual_host(&handle)),
            Some(HostKind::Port(handle, port)) => Some(self.0.hosts.virtual_host_of_port(&handle, port)),
            Some(HostKind::Apex | HostKind::App) => None,
            None => self.0.domains.entrance(host),
        }
    }

    fn fits(&self, bound: &Bound, host: &str, state: &str, verifier: &str) -> bool {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let here = self.entrance(host).is_some_and(|entrance| entrance.audience == bound.audience);
        here && bound.state == state && bound.challenge == challenge
    }

    async fn instance_session(&self, tx: &Tx, bound: Bound, client: &Client, now: Timestamp) -> Result<Option<Token>> {
        let Some(parent) = store::session(tx, bound.session).await?.filter(|p| p.expires_at > now) else {
            return Ok(None);
        };
        // Locked: a suspension either sees this session and ends it, or is seen here.
        let person = store::person_locked(tx, parent.account).await?.filter(|p| p.state == State::Active);
        let Some(person) = person else { return Ok(None) };
        let token = Token::new(&self.0.clock);
        let session = StoredSession {
            id: SessionId(self.0.clock.uuid()),
            account: person.id,
            audience: bound.audience,
            parent: Some(parent.id),
            method: "hand_off".into(),
            user_agent: rules::device_words(&client.user_agent),
            ip: rules::shorten(client.ip),
            created_at: now,
            last_used_at: now,
            expires_at: now.plus(SESSION_LIVES).min(parent.expires_at),
            passkey_at: parent.passkey_at,
        };
        store::insert_session(tx, token.hash(), &session, MOST_SESSIONS).await?;
        Ok(Some(token))
    }
}
