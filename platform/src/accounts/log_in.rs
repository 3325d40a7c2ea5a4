//! Logging in: a passkey, and a one-time code where [`rules::second_factor`] says so.

use std::time::Duration;

use anyhow::Context as _;
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
use crate::error::{Error, Result};
use crate::secrets::{self, Token};

/// How long somebody with a right passkey has to bring the one-time code.
const TIME_FOR_CODE: Duration = Duration::from_secs(300);
/// How long a browser stays known after its last login.
pub const DEVICE_KNOWN_FOR: Duration = Duration::from_secs(180 * 24 * 3600);

/// The right passkey was shown; the code is still to come.
#[derive(Serialize, Deserialize)]
struct PendingLogIn {
    account: AccountId,
    device_hash: Option<Vec<u8>>,
}

/// A checked passkey and whose it is.
struct VerifiedPasskey {
    person: StoredAccount,
    passkey: StoredPasskey,
    /// The passkey as it was read, whose counter the answer was compared with.
    before: Passkey,
    kind: PasskeyKind,
}

impl Accounts {
    /// A token for the login cookie, and options for `navigator.credentials.get` without a list of credentials.
    ///
    /// # Errors
    /// `TooMany` when one address asks too often, or very many people log in at once.
    pub async fn log_in_challenge(&self, client: &Client) -> Result<(Token, Value)> {
        self.0.limits.challenge(client.ip)?;
        let (options, state) = self.0.ceremonies.begin_log_in()?;
        let token = Token::new(&self.0.clock);
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        store::drop_expired_challenges(&tx, now).await?;
        store::put_challenge(&tx, token.hash(), ChallengePurpose::LogIn, state, now.plus(ceremonies::TIME)).await?;
        tx.commit().await?;
        Ok((token, options))
    }

    /// Takes the browser's answer. Whatever is wrong with it, the error is the same.
    ///
    /// # Errors
    /// `Forbidden` with that one sentence; `TooMany` after ten tries a minute from one address.
    pub async fn log_in(
        &self,
        token: &str,
        answer: Value,
        device: Option<&str>,
        client: &Client,
    ) -> Result<LogInOutcome> {
        self.0.limits.log_in(client.ip)?;
        let state = self.take_log_in_state(token).await?.ok_or_else(log_in_refused)?;
        let proof = self.prove(state, answer).await?;
        let device_hash = device.map(secrets::hash);
        let device = self.known_device(proof.person.id, device_hash.as_deref()).await?;

        let tx = self.0.db.begin().await?;
        if !store::save_passkey_use(&tx, &proof.passkey, &proof.before, self.0.clock.now()).await? {
            // Another login was quicker, or the passkey was removed: the counter was compared with one that is gone.
            tracing::info!(account.handle = %proof.person.handle, "a passkey changed while it was used");
            return Err(log_in_refused());
        }
        let outcome = match rules::second_factor(proof.person.role, proof.kind, device) {
            SecondFactor::NotNeeded => {
                // Read again under the lock: a suspension that came meanwhile counts.
                let person = self.active_person(&tx, proof.person.id).await?;
                let device_hash = device_hash.as_deref();
                LogInOutcome::Complete(self.sign_in(&tx, &person, LogInMethod::Passkey, client, device_hash).await?)
            }
            SecondFactor::Needed => {
                let half = PendingLogIn { account: proof.person.id, device_hash };
                LogInOutcome::CodeRequired(self.put_pending_log_in(&tx, &half).await?)
            }
        };
        tx.commit().await?;
        Ok(outcome)
    }

    /// The second half, where a one-time code was asked for.
    ///
    /// # Errors
    /// `Invalid` for a wrong code, which may be tried again; `TooMany` after five of them; `Forbidden` when the first
    /// half was too long ago, or after a hundred wrong codes.
    pub async fn log_in_code(&self, token: &str, code: &str, client: &Client) -> Result<NewSession> {
        let (hash, now) = (secrets::hash(token), self.0.clock.now());
        // Before the writer is asked for: anybody can send a token they made up.
        store::peek_challenge(self.0.db.read(), &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let tx = self.0.db.begin().await?;
        let state = store::peek_challenge(&*tx, &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let half: PendingLogIn = serde_json::from_str(&state).context("reading a login that is half way")?;
        let person = self.active_person(&tx, half.account).await?;
        if let CodeOutcome::Rejected(error) = self.try_code(&tx, &person, code, LockoutPolicy::Refuse).await? {
            tx.commit().await?;
            return Err(error);
        }
        store::take_challenge(&tx, &hash, ChallengePurpose::LogInCode, now)
            .await?
            .ok_or_else(pending_log_in_is_over)?;
        let device_hash = half.device_hash.as_deref();
        let signed_in = self.sign_in(&tx, &person, LogInMethod::PasskeyAndCode, client, device_hash).await?;
        tx.commit().await?;
        Ok(signed_in)
    }

    /// Uses the challenge up before anything else is looked at: an answer counts once, right or wrong.
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

    async fn prove(&self, state: DiscoverableAuthentication, answer: Value) -> Result<VerifiedPasskey> {
        match self.check(state, answer).await? {
            Ok(proof) if may_log_in(&proof.person) => Ok(proof),
            Ok(proof) => {
                tracing::info!(account.handle = %proof.person.handle, "a suspended or deleted account tried to log in");
                Err(log_in_refused())
            }
            Err(CeremonyError::Webauthn(WebauthnError::CredentialPossibleCompromise)) => {
                tracing::warn!("a passkey's counter went back: it may have been copied; the login was refused");
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
        let Some(mut passkey) = stored else { return Ok(Err(CeremonyError::NotTheirs)) };
        let Some(person) = store::account_by_id(db, passkey.account).await? else {
            return Ok(Err(CeremonyError::NotTheirs));
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

    async fn put_pending_log_in(&self, tx: &Tx, half: &PendingLogIn) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let state = serde_json::to_string(half).context("writing a login that is half way")?;
        let until = self.0.clock.now().plus(TIME_FOR_CODE);
        store::put_challenge(tx, token.hash(), ChallengePurpose::LogInCode, state, until).await?;
        Ok(token)
    }

    /// The account, locked, if it may log in.
    async fn active_person(&self, tx: &Tx, id: AccountId) -> Result<StoredAccount> {
        store::lock_account(tx, id).await?.filter(may_log_in).ok_or_else(log_in_refused)
    }
}

/// Who leaves may, to stay after all.
pub(super) fn may_log_in(person: &StoredAccount) -> bool {
    matches!(person.state, AccountState::Active | AccountState::Deleting)
}

/// The one sentence for a login that fails: whether it was the signature, the account or the operator stays unsaid.
fn log_in_refused() -> Error {
    Error::Forbidden("That did not log you in. Please try again, or use a recovery code.".into())
}

fn pending_log_in_is_over() -> Error {
    Error::Forbidden("This login took too long or was finished already. Please begin again with your passkey.".into())
}
