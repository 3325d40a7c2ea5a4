//! Signing up: handle, passkey, one-time code, recovery codes; only then an account and an instance, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::one_time_codes::wrong_code;
use super::sessions::LogInMethod;
use super::store::{self, ChallengePurpose, StoredAccount, StoredPasskey, StoredSignUp};
use super::{
    AccountState, Accounts, Client, HandleAvailability, NewSession, Role, SignUpStep, SignUpView, ceremonies, rules,
};
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::instances::Instance;
use crate::secrets::{self, Token};

/// How long a sign-up holds its handle, from its beginning.
pub const SIGN_UP_LIVES: Duration = Duration::from_secs(30 * 60);
/// Free handles suggested in place of a taken one.
const SUGGESTED: usize = 3;

impl Accounts {
    /// Whether what was typed can be claimed. Handles are public, so anybody may ask.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn handle_availability(&self, typed: &str) -> Result<HandleAvailability> {
        let handle = match Handle::claim(typed) {
            Ok(handle) => handle,
            Err(error) => return Ok(HandleAvailability::Invalid(error)),
        };
        let mut candidates = rules::suggestions(&handle);
        let skeletons: Vec<String> = candidates.iter().chain([&handle]).map(Handle::skeleton).collect();
        let db = self.0.db.read();
        let mut taken = store::skeletons_of_accounts(db, &skeletons).await?;
        taken.extend(store::skeletons_of_sign_ups(db, &skeletons, self.0.clock.now()).await?);
        if !taken.contains(&handle.skeleton()) {
            return Ok(HandleAvailability::Free);
        }
        candidates.retain(|other| !taken.contains(&other.skeleton()));
        candidates.truncate(SUGGESTED);
        Ok(HandleAvailability::Taken { suggestions: candidates })
    }

    /// Claims a handle for 30 minutes. `previous` is the sign-up this browser began before: it is continued when the handle is
    /// the same and given up otherwise. `setup_link` is the operator's one-time link: it works with sign-ups closed, and the account is an admin.
    ///
    /// # Errors
    /// `Invalid` for what is no handle, `Conflict` when it is taken, `Forbidden` when sign-ups are closed or the set-up
    /// link does not work, `TooMany` after ten sign-ups an hour from one address or sixty from all.
    pub async fn sign_up_begin(
        &self,
        typed: &str,
        previous: Option<&str>,
        setup_link: Option<&str>,
        client: &Client,
    ) -> Result<Token> {
        let handle = Handle::claim(typed).map_err(|error| Error::invalid("handle", error.to_string()))?;
        let now = self.0.clock.now();
        let previous = match previous {
            Some(token) => store::sign_up_by_token(self.0.db.read(), &secrets::hash(token), now).await?,
            None => None,
        };
        let role = self.role_for(previous.as_ref(), setup_link, now).await?;
        match previous {
            Some(same) if same.handle == handle && same.role == role => self.continue_sign_up(&same).await,
            other => {
                // Before the limit: looking for a free handle is not a sign-up.
                if other.as_ref().is_none_or(|p| p.handle.skeleton() != handle.skeleton()) {
                    self.require_free(&handle).await?;
                }
                // The operator's link is proof enough, and must work while strangers use up everyone's share.
                if role != Role::Admin {
                    self.0.limits.sign_up_begun(client.ip)?;
                }
                self.claim(handle, role, other.as_ref(), now).await
            }
        }
    }

    /// Where this browser's sign-up stands.
    ///
    /// # Errors
    /// `Conflict` with a sentence when it expired or was finished.
    pub async fn sign_up(&self, token: &str) -> Result<SignUpView> {
        let half = self.live_sign_up(token).await?;
        let step = match (&half.passkey, &half.recovery_codes) {
            (None, _) => SignUpStep::Passkey,
            (Some(_), None) => {
                let (uri, secret) = self.0.totp_to_show(half.account, &half.totp_secret, &half.handle)?;
                SignUpStep::OneTimeCode { uri, secret }
            }
            (Some(_), Some(sealed)) => SignUpStep::RecoveryCodes(self.recovery_codes(&half, sealed)?),
        };
        Ok(SignUpView { handle: half.handle, step })
    }

    /// Options for `navigator.credentials.create`, `{"publicKey": {..}}`. Asked again, the answer to the ones before
    /// does not count any more.
    ///
    /// # Errors
    /// `Conflict` when the sign-up expired.
    pub async fn sign_up_passkey_challenge(&self, token: &str) -> Result<Value> {
        let half = self.live_sign_up(token).await?;
        let (options, state) = self.0.ceremonies.begin_passkey(half.account, &half.handle, Vec::new())?;
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(ceremonies::CEREMONY_TIMEOUT);
        store::put_challenge(&tx, challenge_hash(&half), ChallengePurpose::SignUpPasskey, state, until).await?;
        tx.commit().await?;
        Ok(options)
    }

    /// Takes the browser's answer.
    ///
    /// # Errors
    /// `Invalid` when it cannot be checked, `Conflict` when the sign-up expired or the passkey is registered already.
    pub async fn sign_up_passkey(&self, token: &str, answer: Value) -> Result<()> {
        let half = self.live_sign_up(token).await?;
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let state = store::take_challenge(&tx, &challenge_hash(&half), ChallengePurpose::SignUpPasskey, now).await?;
        tx.commit().await?;
        let passkey = self.0.ceremonies.finish_passkey(&state.ok_or_else(ceremonies::passkey_refused)?, answer)?;
        if store::passkey_by_credential(self.0.db.read(), passkey.cred_id()).await?.is_some() {
            return Err(Error::Conflict("That passkey is registered already. Please make another one.".into()));
        }
        let tx = self.0.db.begin().await?;
        store::set_sign_up_passkey(&tx, half.id, &passkey).await?;
        tx.commit().await
    }

    /// Confirms the one-time-code app with one code. Once it is confirmed, doing it again changes nothing.
    ///
    /// # Errors
    /// `Invalid` for a wrong code, `Conflict` when the sign-up expired or has no passkey yet.
    pub async fn sign_up_code(&self, token: &str, code: &str) -> Result<()> {
        let half = self.live_sign_up(token).await?;
        if half.passkey.is_none() {
            return Err(not_complete());
        }
        if half.totp_step.is_some() {
            return Ok(());
        }
        let step = self.0.code_step(half.account, &half.totp_secret, code, self.0.clock.now())?;
        let step = step.ok_or_else(wrong_code)?;
        let codes = self.0.new_recovery_codes().join("\n");
        let sealed = self.0.keys.seal(half.account.0.as_bytes(), codes.as_bytes());
        let tx = self.0.db.begin().await?;
        store::set_sign_up_confirmed(&tx, half.id, step, sealed).await?;
        tx.commit().await
    }

    /// Makes account, session and instance, all or nothing, and begins to make the container.
    ///
    /// # Errors
    /// `Conflict` when it was finished already, expired, is not complete, or the handle went; `TooMany` when too many were
    /// finished from one address or altogether. Nothing was made then.
    pub async fn sign_up_finish(&self, token: &str, client: &Client) -> Result<(NewSession, Arc<Instance>)> {
        let now = self.0.clock.now();
        if self.live_sign_up(token).await?.role != Role::Admin {
            self.0.limits.sign_up_finished(client.ip)?;
        }
        let tx = self.0.db.begin().await?;
        let half = store::take_sign_up(&tx, &secrets::hash(token), now).await?.ok_or_else(sign_up_is_over)?;
        if half.role == Role::Admin {
            self.use_setup_link(&tx).await?;
        }
        let person = self.make_account(&tx, half, now).await?;
        let instance = self.0.instances.create_in(&tx, person.id, &person.handle).await?;
        let signed_in = self.sign_in(&tx, &person, LogInMethod::SignUp, client, None).await?;
        tx.commit().await?;
        tracing::info!(account.handle = %person.handle, instance.id = %instance, "signed up");
        Ok((signed_in, self.0.instances.admit(instance).await?))
    }

    /// Admin with a working set-up link, also when this browser came with it before; else a member, if sign-ups are open.
    async fn role_for(
        &self,
        previous: Option<&StoredSignUp>,
        setup_link: Option<&str>,
        now: Timestamp,
    ) -> Result<Role> {
        let db = self.0.db.read();
        let was_admin = previous.is_some_and(|p| p.role == Role::Admin);
        match setup_link {
            Some(link) => {
                let works = store::has_setup_link(db, &secrets::hash(link), now).await?;
                if (works || was_admin) && !store::has_admin(db).await? {
                    Ok(Role::Admin)
                } else {
                    Err(setup_link_is_over())
                }
            }
            None if was_admin => Ok(Role::Admin),
            None if self.0.signups_open => Ok(Role::Member),
            None => Err(Error::Forbidden("Sign-ups are closed here. Please ask the operator of this Berth.".into())),
        }
    }

    async fn require_free(&self, handle: &Handle) -> Result<()> {
        let HandleAvailability::Taken { suggestions } = self.handle_availability(handle.as_str()).await? else {
            return Ok(());
        };
        let free: Vec<&str> = suggestions.iter().map(Handle::as_str).collect();
        Err(Error::Conflict(format!("{handle} is taken. Still free: {}.", free.join(", "))))
    }

    /// A new token for the same sign-up: the room keeps no token that it could give out again.
    async fn continue_sign_up(&self, half: &StoredSignUp) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        store::set_sign_up_token(&tx, half.id, token.hash()).await?;
        tx.commit().await?;
        Ok(token)
    }

    async fn claim(
        &self,
        handle: Handle,
        role: Role,
        instead_of: Option<&StoredSignUp>,
        now: Timestamp,
    ) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let account = AccountId(self.0.clock.uuid());
        let tx = self.0.db.begin().await?;
        if let Some(previous) = instead_of {
            store::give_up_sign_up(&tx, previous.id).await?;
        }
        if !store::skeletons_of_accounts(&tx, &[handle.skeleton()]).await?.is_empty() {
            return Err(Error::Conflict(format!("{handle} is taken. Please choose another handle.")));
        }
        let half = StoredSignUp {
            id: self.0.clock.uuid(),
            account,
            handle,
            role,
            passkey: None,
            totp_secret: self.0.new_totp_secret(account),
            totp_step: None,
            recovery_codes: None,
            expires_at: now.plus(SIGN_UP_LIVES),
        };
        store::insert_sign_up(&tx, token.hash(), &half, now).await?;
        tx.commit().await?;
        Ok(token)
    }

    async fn live_sign_up(&self, token: &str) -> Result<StoredSignUp> {
        let found = store::sign_up_by_token(self.0.db.read(), &secrets::hash(token), self.0.clock.now()).await?;
        found.ok_or_else(sign_up_is_over)
    }

    fn recovery_codes(&self, half: &StoredSignUp, sealed: &[u8]) -> Result<Vec<String>> {
        let plain = self.0.keys.open(half.account.0.as_bytes(), sealed).context("opening recovery codes")?;
        let text = std::str::from_utf8(&plain).context("reading recovery codes")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The set-up link makes the first admin and no other, whoever else signed up before; asked again here, because another
    /// may have been quicker.
    async fn use_setup_link(&self, tx: &Tx) -> Result<()> {
        if store::take_setup_link(tx).await? && !store::has_admin(tx).await? {
            Ok(())
        } else {
            Err(setup_link_is_over())
        }
    }

    async fn make_account(&self, tx: &Tx, half: StoredSignUp, now: Timestamp) -> Result<StoredAccount> {
        let codes = half.recovery_codes.as_deref().ok_or_else(not_complete)?;
        let codes = self.recovery_codes(&half, codes)?;
        let passkey = half.passkey.ok_or_else(not_complete)?;
        let person = StoredAccount {
            id: half.account,
            handle: half.handle,
            role: half.role,
            state: AccountState::Active,
            totp_secret: half.totp_secret,
            // The code that confirmed the app is used up.
            totp_last_step: half.totp_step.ok_or_else(not_complete)?,
            totp_failures: 0,
            totp_blocked_until: Timestamp(0),
            created_at: now,
        };
        store::insert_account(tx, &person).await?;
        let passkey = StoredPasskey {
            id: self.0.clock.uuid(),
            account: person.id,
            passkey,
            name: "Passkey 1".into(),
            created_at: now,
            last_used_at: now,
        };
        store::insert_passkey(tx, &passkey).await?;
        let hashes = codes.iter().filter_map(|code| rules::read_recovery_code(code));
        let hashes = hashes.map(|code| self.0.recovery_code_hash(person.id, &code));
        store::insert_recovery_codes(tx, person.id, hashes).await?;
        Ok(person)
    }
}

/// A sign-up has one passkey ceremony at a time; its id is known to nobody outside.
fn challenge_hash(half: &StoredSignUp) -> Vec<u8> {
    secrets::hash(&format!("sign-up passkey {}", half.id))
}

fn sign_up_is_over() -> Error {
    Error::Conflict(
        "This sign-up was finished or is more than 30 minutes old. If you finished it, log in; if not, please begin again."
            .into(),
    )
}

fn not_complete() -> Error {
    Error::Conflict("This sign-up is not complete yet. Please go on where you stopped.".into())
}

fn setup_link_is_over() -> Error {
    Error::Forbidden(
        "This set-up link does not work any more: it was used, replaced, or is older than an hour, or there is an admin. The operator can make a new one while there is none."
            .into(),
    )
}
