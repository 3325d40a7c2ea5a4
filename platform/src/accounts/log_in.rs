//! Login: a passkey, plus a one-time code where [`rules::second_factor`] requires one.

use std::time::Duration;

use anyhow::Context as _;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::{self, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use webauthn_rs::prelude::{DiscoverableAuthentication, Passkey, WebauthnError};

use super::ceremonies::{self, CeremonyError};
use super::one_time_codes::{CodeOutcome, LockoutPolicy};
use super::rules::{self, DeviceStatus, PasskeyKind, SecondFactor};
use super::sessions::LogInMethod;
use super::store::{self, ChallengePurpose, StoredAccount, StoredPasskey};
use super::{AccountState, Accounts, Client, LogInOutcome, NewSession};
use crate::db::{AccountId, Tx};

/// Time limit for entering the one-time code after the passkey was accepted.
const CODE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a browser counts as known after its last login.
pub const DEVICE_KNOWN_FOR: Duration = Duration::from_secs(180 * 24 * 3600);

/// A login with an accepted passkey that still needs its one-time code.
#[derive(Serialize, Deserialize)]
struct PendingLogIn {
    account: AccountId,
    device_hash: Option<Vec<u8>>,
}

/// A passkey after its assertion was verified, with its account.
struct VerifiedPasskey {
    person: StoredAccount,
    passkey: StoredPasskey,
    /// The passkey as read from the database: the version against which the assertion was verified.
    before: Passkey,
    kind: PasskeyKind,
}

impl Accounts {
    /// A token for the login cookie, and options for `navigator.credentials.get` without a list of credentials.
    ///
    /// # Errors
    /// `TooMany` when one address, or all clients together, exceed their rate limit.
    pub async fn log_in_challenge(&self, client: &Client) -> Result<(Token, Value)> {
        self.0.limits.challenge(client.ip)?;
        let (options, state) = self.0.ceremonies.begin_log_in()?;
        let token = Token::new(&self.0.clock);
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        store::drop_expired_challenges(&tx, now).await?;
        store::put_challenge(&tx, token.hash(), ChallengePurpose::LogIn, state, now.plus(ceremonies::CEREMONY_TIMEOUT))
            .await?;
        tx.commit().await?;
        Ok((token, options))
    }

    /// Verifies the browser's assertion and logs in, or asks for a one-time code. `device` is the device cookie.
    ///
    /// # Errors
    /// `Forbidden`, with one sentence for every reason; `TooMany` after ten attempts a minute from one address.
    pub async fn log_in(
        &self,
        token: &str,
        answer: Value,
        device: Option<&str>,
        client: &Client,
    ) -> Result<LogInOutcome> {
        self.0.limits.log_in(client.ip)?;
        let state = self.take_log_in_state(token).await?.ok_or_else(log_in_refused)?;
        let verified = self.verify(state, answer).await?;
        let device_hash = device.map(secrets::hash);
        let device = self.known_device(verified.person.id, device_hash.as_deref()).await?;

        let tx = self.0.db.begin().await?;
        if !store::save_passkey_use(&tx, &verified.passkey, &verified.before, self.0.clock.now()).await? {
            // A concurrent login stored another counter, or the passkey was removed. The signature counter was compared
            // with a stale value, so a cloned authenticator could pass: refuse.
            tracing::info!(account.handle = %verified.person.handle, "a passkey changed during a login with it");
            return Err(log_in_refused());
        }
        let outcome = match rules::second_factor(verified.person.role, verified.kind, device) {
            SecondFactor::NotNeeded => {
                // TOCTOU: read again under the row lock, because the account may have been suspended since the first
                // read.
                let person = self.active_person(&tx, verified.person.id).await?;
                let device_hash = device_hash.as_deref();
                LogInOutcome::Complete(self.sign_in(&tx, &person, LogInMethod::Passkey, client, device_hash).await?)
            }
            SecondFactor::Needed => {
                let pending = PendingLogIn { account: verified.person.id, device_hash };
                LogInOutcome::CodeRequired(self.put_pending_log_in(&tx, &pending).await?)
            }
        };
        tx.commit().await?;
        Ok(outcome)
    }

    /// Completes a login that needs a one-time code. `token` identifies the pending login.
    ///
    /// # Errors
    /// `Invalid` for a wrong code, which may be retried; `TooMany` after five of them; `Forbidden` when the pending
    /// login expired, or after a hundred wrong codes.
    pub async fn log_in_code(&self, token: &str, code: &str, client: &Client) -> Result<NewSession> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        // The read comes first: a transaction occupies the database's only writer, and a forged token must not reach
        // it.
        store::peek_challenge(self.0.db.read(), &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let tx = self.0.db.begin().await?;
        let state = store::peek_challenge(&tx, &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let pending: PendingLogIn = serde_json::from_str(&state).context("reading a pending login")?;
        let person = self.active_person(&tx, pending.account).await?;
        if let CodeOutcome::Rejected(error) = self.try_code(&tx, &person, code, LockoutPolicy::Refuse).await? {
            // Committed, not rolled back: the failure count that throttles guessing is part of this transaction.
            tx.commit().await?;
            return Err(error);
        }
        // Only an accepted code consumes the pending login. Of two concurrent requests one finds the row gone.
        store::take_challenge(&tx, &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let device_hash = pending.device_hash.as_deref();
        let signed_in = self.sign_in(&tx, &person, LogInMethod::PasskeyAndCode, client, device_hash).await?;
        tx.commit().await?;
        Ok(signed_in)
    }

    /// Deletes the challenge before the response is parsed, so that a response can be verified only once, right or
    /// wrong. This prevents replay (WebAuthn Level 3, 13.4.3).
    async fn take_log_in_state(&self, token: &str) -> Result<Option<DiscoverableAuthentication>> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        if store::peek_challenge(self.0.db.read(), &hash, ChallengePurpose::LogIn, now).await?.is_none() {
            return Ok(None);
        }
        let tx = self.0.db.begin().await?;
        let state = store::take_challenge(&tx, &hash, ChallengePurpose::LogIn, now).await?;
        tx.commit().await?;
        Ok(state.map(|text| serde_json::from_str(&text)).transpose().context("reading a ceremony's state")?)
    }

    async fn verify(&self, state: DiscoverableAuthentication, answer: Value) -> Result<VerifiedPasskey> {
        match self.check(state, answer).await? {
            Ok(verified) if may_log_in(&verified.person) => Ok(verified),
            Ok(verified) => {
                tracing::info!(account.handle = %verified.person.handle, "a login to a suspended or deleted account was refused");
                Err(log_in_refused())
            }
            Err(CeremonyError::Webauthn(WebauthnError::CredentialPossibleCompromise)) => {
                tracing::warn!(
                    "a passkey's signature counter did not increase: it may have been cloned; the login was refused"
                );
                Err(log_in_refused())
            }
            Err(refused) => {
                tracing::info!(reason = %refused, "a login was refused");
                Err(log_in_refused())
            }
        }
    }

    async fn check(
        &self,
        state: DiscoverableAuthentication,
        answer: Value,
    ) -> Result<std::result::Result<VerifiedPasskey, CeremonyError>> {
        let claim = match self.0.ceremonies.read_claim(answer) {
            Ok(claim) => claim,
            Err(refused) => return Ok(Err(refused)),
        };
        let db = self.0.db.read();
        let stored =
            store::passkey_by_credential(db, claim.credential_id()).await?.filter(|s| s.account == claim.account);
        let Some(mut passkey) = stored else { return Ok(Err(CeremonyError::WrongAccount)) };
        let Some(person) = store::account_by_id(db, passkey.account).await? else {
            return Ok(Err(CeremonyError::WrongAccount));
        };
        let before = passkey.passkey.clone();
        Ok(self.0.ceremonies.finish_log_in(state, &claim, &mut passkey.passkey).map(|result| {
            let kind = if result.backup_eligible() { PasskeyKind::Synced } else { PasskeyKind::DeviceBound };
            VerifiedPasskey { person, passkey, before, kind }
        }))
    }

    async fn known_device(&self, account: AccountId, device_hash: Option<&[u8]>) -> Result<DeviceStatus> {
        let Some(hash) = device_hash else { return Ok(DeviceStatus::New) };
        let since = self.0.clock.now().minus(DEVICE_KNOWN_FOR);
        let known = store::has_device(self.0.db.read(), account, hash, since).await?;
        Ok(if known { DeviceStatus::Known } else { DeviceStatus::New })
    }

    async fn put_pending_log_in(&self, tx: &Tx, pending: &PendingLogIn) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let state = serde_json::to_string(pending).context("writing a pending login")?;
        let until = self.0.clock.now().plus(CODE_TIMEOUT);
        store::put_challenge(tx, token.hash(), ChallengePurpose::LogInCode, state, until).await?;
        Ok(token)
    }

    /// The account, locked, if it may log in.
    async fn active_person(&self, tx: &Tx, id: AccountId) -> Result<StoredAccount> {
        store::lock_account(tx, id).await?.filter(may_log_in).ok_or_else(log_in_refused)
    }
}

/// An account that is scheduled for deletion may log in, to cancel the deletion.
pub(super) fn may_log_in(person: &StoredAccount) -> bool {
    matches!(person.state, AccountState::Active | AccountState::Deleting)
}

/// The single sentence for a failed login. It must not reveal whether the signature was wrong, or the account unknown
/// or suspended.
fn log_in_refused() -> Error {
    Error::Forbidden("That did not log you in. Please try again, or use a recovery code.".into())
}

fn pending_log_in_is_over() -> Error {
    Error::Forbidden("This login took too long or was finished already. Please begin again with your passkey.".into())
}
