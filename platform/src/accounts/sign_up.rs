//! Sign-up: handle, passkey, one-time code, recovery codes. The last step creates account and instance in one
//! transaction.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_ground::secrets::{self, Token};
use serde_json::Value;

use super::one_time_codes::wrong_code;
use super::sessions::LogInMethod;
use super::store::{self, ChallengePurpose, StoredAccount, StoredPasskey, StoredSignUp};
use super::{
    AccountState, Accounts, Client, HandleAvailability, NewSession, Role, SignUpStep, SignUpView, ceremonies, rules,
};
use crate::db::{AccountId, Tx};
use crate::instances::Instance;

/// Lifetime of a sign-up, for which it reserves its handle.
pub const SIGN_UP_LIVES: Duration = Duration::from_secs(30 * 60);
/// Most free handles that are suggested instead of a taken one.
const MOST_SUGGESTIONS: usize = 3;

impl Accounts {
    /// Whether a handle, as typed, can be claimed. Handles are public host names, so the answer reveals no secret.
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
        candidates.truncate(MOST_SUGGESTIONS);
        Ok(HandleAvailability::Taken { suggestions: candidates })
    }

    /// Begins a sign-up and reserves the handle for 30 minutes. `previous` is the token of a sign-up that this browser
    /// began before: it is continued for the same handle, and abandoned otherwise. `setup_link` is the token of the
    /// operator's single-use link: it works even while sign-ups are closed, and makes the account an admin.
    ///
    /// # Errors
    /// `Invalid` when the text is not a handle; `Conflict` when the handle is taken; `Forbidden` when sign-ups are
    /// closed or the set-up link is not valid; `TooMany` after ten sign-ups an hour from one address or sixty from all.
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
                // Order: before the rate limit, which counts sign-ups and not searches for a free handle.
                if other.as_ref().is_none_or(|p| p.handle.skeleton() != handle.skeleton()) {
                    self.require_free(&handle).await?;
                }
                // The holder of the set-up link is exempt: the link must also work while others exhaust the shared
                // limit.
                if role != Role::Admin {
                    self.0.limits.sign_up_begun(client.ip)?;
                }
                self.claim(handle, role, other.as_ref(), now).await
            }
        }
    }

    /// The state of a sign-up.
    ///
    /// # Errors
    /// `Conflict` when it expired or was finished.
    pub async fn sign_up(&self, token: &str) -> Result<SignUpView> {
        let sign_up = self.live_sign_up(token).await?;
        let step = match (&sign_up.passkey, &sign_up.recovery_codes) {
            (None, _) => SignUpStep::Passkey,
            (Some(_), None) => {
                let (uri, secret) = self.0.totp_to_show(sign_up.account, &sign_up.totp_secret, &sign_up.handle)?;
                SignUpStep::OneTimeCode { uri, secret }
            }
            (Some(_), Some(sealed)) => SignUpStep::RecoveryCodes(self.recovery_codes(&sign_up, sealed)?),
        };
        Ok(SignUpView { handle: sign_up.handle, step })
    }

    /// Options for `navigator.credentials.create`, `{"publicKey": {..}}`. Another call invalidates the previous
    /// options.
    ///
    /// # Errors
    /// `Conflict` when the sign-up expired.
    pub async fn sign_up_passkey_challenge(&self, token: &str) -> Result<Value> {
        let sign_up = self.live_sign_up(token).await?;
        let (options, state) = self.0.ceremonies.begin_passkey(sign_up.account, &sign_up.handle, Vec::new())?;
        let tx = self.0.db.begin().await?;
        let until = self.0.clock.now().plus(ceremonies::CEREMONY_TIMEOUT);
        store::put_challenge(&tx, challenge_hash(&sign_up), ChallengePurpose::SignUpPasskey, state, until).await?;
        tx.commit().await?;
        Ok(options)
    }

    /// Verifies the browser's response and stores the passkey with the sign-up.
    ///
    /// # Errors
    /// `Invalid` when the response is not valid; `Conflict` when the sign-up expired or the passkey is registered
    /// already.
    pub async fn sign_up_passkey(&self, token: &str, answer: Value) -> Result<()> {
        let sign_up = self.live_sign_up(token).await?;
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let state = store::take_challenge(&tx, &challenge_hash(&sign_up), ChallengePurpose::SignUpPasskey, now).await?;
        tx.commit().await?;
        let passkey = self.0.ceremonies.finish_passkey(&state.ok_or_else(ceremonies::passkey_refused)?, answer)?;
        if store::passkey_by_credential(self.0.db.read(), passkey.cred_id()).await?.is_some() {
            return Err(Error::Conflict("That passkey is registered already. Please make another one.".into()));
        }
        let tx = self.0.db.begin().await?;
        store::set_sign_up_passkey(&tx, sign_up.id, &passkey).await?;
        tx.commit().await
    }

    /// Confirms the authenticator app by its first code. Idempotent once confirmed.
    ///
    /// # Errors
    /// `Invalid` for a wrong code, `Conflict` when the sign-up expired or has no passkey yet.
    pub async fn sign_up_code(&self, token: &str, code: &str) -> Result<()> {
        let sign_up = self.live_sign_up(token).await?;
        if sign_up.passkey.is_none() {
            return Err(not_complete());
        }
        if sign_up.totp_step.is_some() {
            return Ok(());
        }
        let step = self.0.code_step(sign_up.account, &sign_up.totp_secret, code, self.0.clock.now())?;
        let step = step.ok_or_else(wrong_code)?;
        let codes = self.0.new_recovery_codes().join("\n");
        let sealed = self.0.keys.seal(sign_up.account.0.as_bytes(), codes.as_bytes());
        let tx = self.0.db.begin().await?;
        store::set_sign_up_confirmed(&tx, sign_up.id, step, sealed).await?;
        tx.commit().await
    }

    /// Creates account, session and instance in one transaction. Then reserves the certificate of the instance's host
    /// and nudges the reconciler to build the container.
    ///
    /// # Errors
    /// `Conflict` when the sign-up was already finished, expired or is incomplete, or the handle was taken meanwhile;
    /// `TooMany` when one address, or all together, finished too many. After an error nothing was created.
    pub async fn sign_up_finish(&self, token: &str, client: &Client) -> Result<(NewSession, Arc<Instance>)> {
        let now = self.0.clock.now();
        if self.live_sign_up(token).await?.role != Role::Admin {
            self.0.limits.sign_up_finished(client.ip)?;
        }
        let tx = self.0.db.begin().await?;
        // One statement deletes and returns the row: of two concurrent requests (a double click) only one gets it.
        let sign_up = store::take_sign_up(&tx, &secrets::hash(token), now).await?.ok_or_else(sign_up_is_over)?;
        if sign_up.role == Role::Admin {
            self.use_setup_link(&tx).await?;
        }
        let person = self.make_account(&tx, sign_up, now).await?;
        let instance = self.0.instances.create_in(&tx, person.id, &person.handle).await?;
        let signed_in = self.sign_in(&tx, &person, LogInMethod::SignUp, client, None).await?;
        tx.commit().await?;
        // Reserved here so that certificates are issued in the order of the sign-ups. Otherwise the first TLS handshake
        // would reserve, and the place in the queue would depend on which browser connects first.
        self.0.certificates.reserve(&person.handle);
        tracing::info!(account.handle = %person.handle, instance.id = %instance, "signed up");
        Ok((signed_in, self.0.instances.load_committed(instance).await?))
    }

    /// The role of the account: admin with a valid set-up link, or when this browser began an admin sign-up before;
    /// otherwise member, if sign-ups are open.
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

    /// Replaces the sign-up's token. Only its hash is stored, so the old token cannot be handed out again.
    async fn continue_sign_up(&self, sign_up: &StoredSignUp) -> Result<Token> {
        let token = Token::new(&self.0.clock);
        let tx = self.0.db.begin().await?;
        store::set_sign_up_token(&tx, sign_up.id, token.hash()).await?;
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
            store::remove_sign_up(&tx, previous.id).await?;
        }
        // Checked in the transaction: no unique index spans `accounts` and `signups`. An account that is created after
        // this check is caught by the unique index on `accounts` at the end of the sign-up.
        if !store::skeletons_of_accounts(&tx, &[handle.skeleton()]).await?.is_empty() {
            return Err(Error::Conflict(format!("{handle} is taken. Please choose another handle.")));
        }
        let sign_up = StoredSignUp {
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
        store::insert_sign_up(&tx, token.hash(), &sign_up, now).await?;
        tx.commit().await?;
        Ok(token)
    }

    async fn live_sign_up(&self, token: &str) -> Result<StoredSignUp> {
        let found = store::sign_up_by_token(self.0.db.read(), &secrets::hash(token), self.0.clock.now()).await?;
        found.ok_or_else(sign_up_is_over)
    }

    fn recovery_codes(&self, sign_up: &StoredSignUp, sealed: &[u8]) -> Result<Vec<String>> {
        let plain = self.0.keys.open(sign_up.account.0.as_bytes(), sealed).context("opening recovery codes")?;
        let text = std::str::from_utf8(&plain).context("reading recovery codes")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Consumes the set-up link. It makes the first admin, never another.
    async fn use_setup_link(&self, tx: &Tx) -> Result<()> {
        // TOCTOU: checked again in the transaction, because another admin sign-up may have finished since this one
        // began.
        if store::take_setup_link(tx).await? && !store::has_admin(tx).await? {
            Ok(())
        } else {
            Err(setup_link_is_over())
        }
    }

    async fn make_account(&self, tx: &Tx, sign_up: StoredSignUp, now: Timestamp) -> Result<StoredAccount> {
        let codes = sign_up.recovery_codes.as_deref().ok_or_else(not_complete)?;
        let codes = self.recovery_codes(&sign_up, codes)?;
        let passkey = sign_up.passkey.ok_or_else(not_complete)?;
        let person = StoredAccount {
            id: sign_up.account,
            handle: sign_up.handle,
            role: sign_up.role,
            state: AccountState::Active,
            totp_secret: sign_up.totp_secret,
            // Replay: the code that confirmed the app must not be accepted again at the first login.
            totp_last_step: sign_up.totp_step.ok_or_else(not_complete)?,
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

/// The key of the sign-up's passkey challenge. Derived from the sign-up's id, which never leaves the server, so that a
/// sign-up has one ceremony at a time and a new one replaces it.
fn challenge_hash(sign_up: &StoredSignUp) -> Vec<u8> {
    secrets::hash(&format!("sign-up passkey {}", sign_up.id))
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
