//! Passkeys of an account: seeing them, adding another.

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ceremonies::{self, passkey_refused};
use super::store::{self, Purpose, StoredPasskey};
use super::{Accounts, PasskeyView, Session};
use crate::db::AccountId;
use crate::error::{Error, Result};
use crate::secrets::{self, Token};

/// Passkeys an account may have.
const MOST_PASSKEYS: usize = 20;
/// How long after a login a passkey may be added. Whoever finds an open laptop, or a stolen cookie, shall not make
/// himself a key to keep.
const PROOF_IS_FRESH_FOR: Duration = Duration::from_secs(600);

/// A passkey that is being added.
#[derive(Serialize, Deserialize)]
struct Adding {
    account: AccountId,
    ceremony: String,
}

impl Accounts {
    /// The passkeys of the caller, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn passkeys(&self, session: &Session) -> Result<Vec<PasskeyView>> {
        let stored = store::passkeys_of(self.0.db.read(), session.account).await?;
        let view = |s: StoredPasskey| PasskeyView {
            id: s.id,
            name: s.name,
            created_at: s.created_at,
            last_used_at: s.last_used_at,
        };
        Ok(stored.into_iter().map(view).collect())
    }

    /// Options for `navigator.credentials.create`; the answer goes to [`Accounts::passkey_add`].
    ///
    /// # Errors
    /// `Forbidden` when the login is more than ten minutes old; `Conflict` when there are twenty passkeys already.
    pub async fn passkey_challenge(&self, session: &Session) -> Result<(Token, Value)> {
        self.require_fresh_proof(session).await?;
        let existing = self.passkeys_with_room(session.account).await?;
        let existing = existing.into_iter().map(|s| s.passkey.cred_id().clone()).collect();
        let (options, ceremony) = self.0.ceremonies.begin_passkey(session.account, &session.handle, existing)?;
        let adding = Adding { account: session.account, ceremony };
        let state = serde_json::to_string(&adding).context("writing a ceremony's state")?;
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(ceremonies::TIME);
        store::put_challenge(&tx, token.hash(), Purpose::PasskeyAdd, state, until).await?;
        tx.commit().await?;
        Ok((token, options))
    }

    /// Takes the browser's answer and keeps the passkey.
    ///
    /// # Errors
    /// `Invalid` when the answer cannot be checked, `Conflict` when the passkey is registered already, and those of
    /// [`Accounts::passkey_challenge`].
    pub async fn passkey_add(&self, session: &Session, token: &str, answer: Value) -> Result<()> {
        self.require_fresh_proof(session).await?;
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let state = store::take_challenge(&tx, &secrets::hash(token), Purpose::PasskeyAdd, now).await?;
        tx.commit().await?;
        let adding: Option<Adding> = state.map(|s| serde_json::from_str(&s)).transpose().context("reading a state")?;
        let adding = adding.filter(|a| a.account == session.account).ok_or_else(passkey_refused)?;
        let passkey = self.0.ceremonies.finish_passkey(&adding.ceremony, answer)?;

        let name = format!("Passkey {}", self.passkeys_with_room(session.account).await?.len() + 1);
        let tx = self.0.db.begin().await?;
        let stored = StoredPasskey {
            id: self.0.clock.uuid(),
            account: session.account,
            passkey,
            name,
            created_at: now,
            last_used_at: now,
        };
        store::insert_passkey(&tx, &stored).await?;
        let handle = session.handle.as_str();
        store::record(&tx, &self.0.clock, handle, "passkey_add", (handle, &stored.name)).await?;
        tx.commit().await
    }

    async fn passkeys_with_room(&self, account: AccountId) -> Result<Vec<StoredPasskey>> {
        let existing = store::passkeys_of(self.0.db.read(), account).await?;
        if existing.len() >= MOST_PASSKEYS {
            return Err(Error::Conflict(format!("You have {MOST_PASSKEYS} passkeys already, and that is the most.")));
        }
        Ok(existing)
    }

    async fn require_fresh_proof(&self, session: &Session) -> Result<()> {
        let stored = self.app_session(session).await?;
        if self.0.clock.now().since(stored.passkey_at) > PROOF_IS_FRESH_FOR {
            return Err(Error::Forbidden(
                "To add a passkey, please log out and in again first: your last login is more than ten minutes ago."
                    .into(),
            ));
        }
        Ok(())
    }
}
