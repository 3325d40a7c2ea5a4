//! Credential management: lists, adds and removes passkeys, and renews recovery codes.

use std::time::Duration;

use anyhow::Context as _;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::{self, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ceremonies::{self, passkey_refused};
use super::store::{self, AuditEntry, ChallengePurpose, StoredPasskey};
use super::{Accounts, PasskeyView, Session, rules};
use crate::db::AccountId;

/// Most passkeys of one account.
const MOST_PASSKEYS: usize = 20;
/// Step-up authentication: how long after a login credentials may be changed or the account deleted. A stolen cookie,
/// or an unattended laptop, must not be enough to add a passkey that outlives the session.
pub(super) const STEP_UP_WINDOW: Duration = Duration::from_secs(600);

/// The stored state of a registration ceremony, with the account that began it.
#[derive(Serialize, Deserialize)]
struct PendingPasskey {
    account: AccountId,
    ceremony: String,
}

impl Accounts {
    /// The caller's passkeys, the oldest first.
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

    /// Options for `navigator.credentials.create`. The browser's response goes to [`Accounts::passkey_add`].
    ///
    /// # Errors
    /// `Forbidden` when the login is more than ten minutes old; `Conflict` when the account has twenty passkeys.
    pub async fn passkey_challenge(&self, session: &Session) -> Result<(Token, Value)> {
        self.require_recent_login(session).await?;
        let existing = self.passkeys_below_limit(session.account).await?;
        let existing = existing.into_iter().map(|s| s.passkey.cred_id().clone()).collect();
        let (options, ceremony) = self.0.ceremonies.begin_passkey(session.account, &session.handle, existing)?;
        let adding = PendingPasskey { account: session.account, ceremony };
        let state = serde_json::to_string(&adding).context("writing a ceremony's state")?;
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(ceremonies::CEREMONY_TIMEOUT);
        store::put_challenge(&tx, token.hash(), ChallengePurpose::PasskeyAdd, state, until).await?;
        tx.commit().await?;
        Ok((token, options))
    }

    /// Verifies the browser's response and stores the passkey.
    ///
    /// # Errors
    /// `Invalid` when the response is not valid, `Conflict` when the passkey is registered already, and those of
    /// [`Accounts::passkey_challenge`].
    pub async fn passkey_add(&self, session: &Session, token: &str, answer: Value) -> Result<()> {
        self.require_recent_login(session).await?;
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let state = store::take_challenge(&tx, &secrets::hash(token), ChallengePurpose::PasskeyAdd, now).await?;
        // Committed before the response is verified: the challenge is for one attempt.
        tx.commit().await?;
        let adding: Option<PendingPasskey> =
            state.map(|s| serde_json::from_str(&s)).transpose().context("reading a state")?;
        let adding = adding.filter(|a| a.account == session.account).ok_or_else(passkey_refused)?;
        let passkey = self.0.ceremonies.finish_passkey(&adding.ceremony, answer)?;

        let existing = self.passkeys_below_limit(session.account).await?;
        // After a removal, "Passkey N" with N = count + 1 may already exist.
        let mut names = (existing.len() + 1..).map(|n| format!("Passkey {n}"));
        let name = names.find(|name| existing.iter().all(|s| s.name != *name)).unwrap_or_default();
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
        let entry = AuditEntry { actor: handle, action: "passkey_add", subject: handle, detail: &stored.name };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await
    }

    /// Removes one of the caller's passkeys, for example because its device was lost.
    ///
    /// # Errors
    /// `Forbidden` when the login is more than ten minutes old; `NotFound` when the caller has no such passkey;
    /// `Conflict` for the last one.
    pub async fn passkey_remove(&self, session: &Session, id: uuid::Uuid) -> Result<()> {
        self.require_recent_login(session).await?;
        let tx = self.0.db.begin().await?;
        // Write skew: the row lock serializes concurrent removals. Without it two requests could each see two passkeys
        // and remove one, which would leave none.
        store::lock_account(&tx, session.account).await?.ok_or(Error::Unauthenticated)?;
        let existing = store::passkeys_of(&tx, session.account).await?;
        let passkey = existing.iter().find(|s| s.id == id).ok_or(Error::NotFound)?;
        if existing.len() == 1 {
            return Err(Error::Conflict("This is your only passkey. Please add another one first.".into()));
        }
        store::remove_passkey(&tx, id).await?;
        let handle = session.handle.as_str();
        let entry = AuditEntry { actor: handle, action: "passkey_remove", subject: handle, detail: &passkey.name };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await
    }

    /// Replaces all recovery codes with ten new ones. They can be shown only now.
    ///
    /// # Errors
    /// `Forbidden` when the login is more than ten minutes old.
    pub async fn recovery_codes_renew(&self, session: &Session) -> Result<Vec<String>> {
        self.require_recent_login(session).await?;
        let codes = self.0.new_recovery_codes();
        let hashes = codes.iter().filter_map(|code| rules::read_recovery_code(code));
        let hashes: Vec<_> = hashes.map(|code| self.0.recovery_code_hash(session.account, &code)).collect();
        let tx = self.0.db.begin().await?;
        store::lock_account(&tx, session.account).await?.ok_or(Error::Unauthenticated)?;
        store::remove_recovery_codes(&tx, session.account).await?;
        store::insert_recovery_codes(&tx, session.account, hashes).await?;
        let handle = session.handle.as_str();
        let entry = AuditEntry { actor: handle, action: "recovery_codes_renew", subject: handle, detail: handle };
        store::record(&tx, &self.0.clock, &entry).await?;
        tx.commit().await?;
        Ok(codes)
    }

    async fn passkeys_below_limit(&self, account: AccountId) -> Result<Vec<StoredPasskey>> {
        let existing = store::passkeys_of(self.0.db.read(), account).await?;
        if existing.len() >= MOST_PASSKEYS {
            return Err(Error::Conflict(format!("You have {MOST_PASSKEYS} passkeys already, and that is the most.")));
        }
        Ok(existing)
    }

    async fn require_recent_login(&self, session: &Session) -> Result<()> {
        let stored = self.app_session(session).await?;
        if self.0.clock.now().since(stored.passkey_at) > STEP_UP_WINDOW {
            return Err(Error::Forbidden(
                "To change passkeys or recovery codes, please log out and in again first: your last login is more than ten minutes ago."
                    .into(),
            ));
        }
        Ok(())
    }
}
