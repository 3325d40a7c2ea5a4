//! Hand-off: turns a login on the app host into a session on an instance's host. It works like an OAuth 2.0
//! authorization code with PKCE (RFC 7636), because no cookie may be readable by both hosts: the instance's host runs a
//! tenant's code.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::{self, Token};
use berth_net::hosts::{HostKind, VirtualHost};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::sessions::MOST_SESSIONS;
use super::store::{self, ChallengePurpose, StoredSession};
use super::{AccountState, Accounts, Client, Session, rules};
use crate::db::{SessionId, Tx};

/// Lifetime of a code: the time for one redirect to the instance's host.
const CODE_LIFETIME: Duration = Duration::from_secs(30);
/// Longest lifetime of a session on an instance's host.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Longest accepted `state`, in bytes; the edge sends 43.
const LONGEST_STATE: usize = 128;
/// Length of a SHA-256 digest in base64url without padding.
const CHALLENGE_LENGTH: usize = 43;

/// The values to which a code is bound. It can be redeemed only with all of them.
#[derive(Serialize, Deserialize)]
struct HandOffBinding {
    audience: String,
    state: String,
    challenge: String,
    session: SessionId,
}

impl Accounts {
    /// The virtual host that a hand-off to `host` leads to: the caller's own instance, or one that is shared with the
    /// caller.
    ///
    /// # Errors
    /// `Forbidden` for any other instance, including one that does not exist; `NotFound` for a host that belongs to no
    /// instance.
    pub fn hand_off_target(&self, session: &Session, host: &str) -> Result<VirtualHost> {
        let virtual_host = self.virtual_host(host).ok_or(Error::NotFound)?;
        if virtual_host.handle == session.handle || self.is_invited(session, &virtual_host) {
            return Ok(virtual_host);
        }
        // No oracle: the same sentence whether the instance exists or not, and whatever it shares.
        Err(Error::Forbidden(format!(
            "{} opens only for its owner and for people its owner shares it with, and you are logged in as {}. Nothing was woken.",
            virtual_host.host, session.handle
        )))
    }

    /// A single-use code, valid for 30 seconds. It is bound to the host, the `state`, the caller's session and the PKCE
    /// `challenge`, which is the base64url of the verifier's SHA-256.
    ///
    /// # Errors
    /// As [`Accounts::hand_off_target`]; `Invalid` for a state or challenge of the wrong shape.
    pub async fn hand_off(&self, session: &Session, host: &str, state: &str, challenge: &str) -> Result<Token> {
        let audience = self.hand_off_target(session, host)?.audience;
        if session.deletion_scheduled {
            return Err(Error::Forbidden(
                "This account is scheduled for deletion, and its instance stays stopped unless you cancel that.".into(),
            ));
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
        // The caller's session may come from the two-second cache. Before a new session is derived from it, the
        // database must confirm that it still exists.
        self.app_session(session).await?;
        let bound =
            HandOffBinding { audience, state: state.to_owned(), challenge: challenge.to_owned(), session: session.id };
        let bound = serde_json::to_string(&bound).context("writing a hand-off")?;
        let code = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(CODE_LIFETIME);
        store::put_challenge(&tx, code.hash(), ChallengePurpose::HandOff, bound, until).await?;
        tx.commit().await?;
        Ok(code)
    }

    /// Exchanges a code for a session on `host`, which ends with its parent session, at the latest after 12 hours.
    /// `None` for a code that is wrong, used or expired.
    ///
    /// # Errors
    /// `TooMany` after sixty attempts a minute from one address.
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
        // The read comes first: a transaction occupies the database's only writer, and without this check forged codes
        // from anywhere on the internet would queue up for it.
        if store::peek_challenge(self.0.db.read(), &hash, ChallengePurpose::HandOff, now).await?.is_none() {
            return Ok(None);
        }
        let tx = self.0.db.begin().await?;
        let taken = store::take_challenge(&tx, &hash, ChallengePurpose::HandOff, now).await?;
        let bound: Option<HandOffBinding> =
            taken.map(|s| serde_json::from_str(&s)).transpose().context("reading a hand-off")?;
        let session = match bound.filter(|b| self.matches_binding(b, host, state, verifier)) {
            Some(bound) => self.instance_session(&tx, bound, client, now).await?,
            None => None,
        };
        // Committed even when the binding does not match: `take_challenge` deleted the code, and a code is single-use,
        // right or wrong. Otherwise an attacker with a stolen code could try verifiers until one matches.
        tx.commit().await?;
        Ok(session)
    }

    /// Whether a share of the instance names the caller. Shares never cover the host of a further port.
    fn is_invited(&self, session: &Session, virtual_host: &VirtualHost) -> bool {
        let instance = self.0.instances.by_handle(&virtual_host.handle).filter(|_| virtual_host.port.is_none());
        instance.is_some_and(|instance| self.0.sharing.invites(&instance, &session.handle))
    }

    fn virtual_host(&self, host: &str) -> Option<VirtualHost> {
        match self.0.hosts.classify(host) {
            Some(HostKind::Instance(handle)) => Some(self.0.hosts.virtual_host(&handle)),
            Some(HostKind::Port(handle, port)) => Some(self.0.hosts.virtual_host_of_port(&handle, port)),
            Some(HostKind::Apex | HostKind::App) => None,
            None => self.0.domains.virtual_host(host),
        }
    }

    fn matches_binding(&self, bound: &HandOffBinding, host: &str, state: &str, verifier: &str) -> bool {
        // Constant-time comparison is not needed. The code itself was looked up by its hash, and an attempt deletes it,
        // so a timing difference cannot be measured twice.
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let here = self.virtual_host(host).is_some_and(|virtual_host| virtual_host.audience == bound.audience);
        here && bound.state == state && bound.challenge == challenge
    }

    async fn instance_session(
        &self,
        tx: &Tx,
        bound: HandOffBinding,
        client: &Client,
        now: Timestamp,
    ) -> Result<Option<Token>> {
        let Some(parent) = store::session(tx, bound.session).await?.filter(|p| p.expires_at > now) else {
            return Ok(None);
        };
        // The row lock serializes this with a suspension, which locks the same row: either the suspension runs later
        // and ends the new session with the others, or it ran before and the state read here is `Suspended`.
        let person = store::lock_account(tx, parent.account).await?.filter(|p| p.state == AccountState::Active);
        let Some(person) = person else { return Ok(None) };
        let token = Token::new(&self.0.clock);
        let session = StoredSession {
            id: SessionId(self.0.clock.uuid()),
            account: person.id,
            audience: bound.audience,
            parent: Some(parent.id),
            method: "hand_off".into(),
            user_agent: rules::device_name(&client.user_agent),
            ip: rules::shorten(client.ip),
            created_at: now,
            last_used_at: now,
            expires_at: now.plus(SESSION_LIFETIME).min(parent.expires_at),
            passkey_at: parent.passkey_at,
        };
        store::insert_session(tx, token.hash(), &session, MOST_SESSIONS).await?;
        Ok(Some(token))
    }
}
