//! Accounts: who a person is and how they prove it. Handles, passkeys, one-time codes, recovery codes, sessions.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

pub use crate::client::Client;
use crate::clock::Timestamp;
use crate::db::{AccountId, SessionId};
use crate::error::Result;
use crate::handle::{Handle, HandleError};
use crate::instances::Instance;
use crate::secrets::Token;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Member,
    /// Has the operator's rights.
    Admin,
}

/// Somebody logged in, on one host.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub account: AccountId,
    pub handle: Handle,
    pub role: Role,
}

/// A login in the list of sessions.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    pub id: SessionId,
    /// A few words made from the user agent: "Chrome on Linux".
    pub device: String,
    /// The address with its last part left out.
    pub ip: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    Free,
    /// Somebody has it, or one that looks the same. Free ones like it are suggested.
    Taken {
        suggestions: Vec<Handle>,
    },
    Bad(HandleError),
}

/// A person half way through signing up.
#[derive(Clone, Debug)]
pub struct SignUp {
    pub handle: Handle,
    pub step: SignUpStep,
}

/// What comes next. Each step is reached once the one before is done; going back is always possible.
#[derive(Clone, Debug)]
pub enum SignUpStep {
    Passkey,
    OneTimeCode {
        /// `otpauth://..`, for the QR code.
        uri: String,
        /// The same secret to type, in base32.
        secret: String,
    },
    /// Ten codes in five groups of five, shown until the person says that they are saved.
    RecoveryCodes(Vec<String>),
}

/// What a browser gets when somebody is logged in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub account: AccountId,
    pub handle: Handle,
    /// For the session cookie of the app host.
    pub session: Token,
    /// For the device cookie: a browser that has it is not new.
    pub device: Token,
}

#[derive(Clone, Debug)]
pub enum LogIn {
    SignedIn(SignedIn),
    /// The passkey was right and a one-time code is asked for as well; the token says who is half way in.
    CodeNeeded(Token),
}

/// An account as the operator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct AccountView {
    pub id: AccountId,
    pub handle: Handle,
    pub role: Role,
    pub suspended: bool,
    pub passkeys: u64,
    pub recovery_codes_left: u64,
    pub created_at: Timestamp,
}

/// A passkey in the list of passkeys.
#[derive(Clone, Debug, Serialize)]
pub struct PasskeyView {
    pub id: uuid::Uuid,
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

impl Accounts {
    // ---- Signing up: handle, passkey, one-time code, recovery codes; only then an account and an instance.

    /// Whether what was typed can be claimed.
    pub async fn handle_availability(&self, _typed: &str) -> Result<Availability> {
        todo!()
    }

    /// Claims a handle for 30 minutes. `previous` is the sign-up this browser began before: it is continued when the handle is
    /// the same and given up otherwise. `setup_link` is the operator's one-time link: it works with sign-ups closed, and the account is an admin.
    pub async fn sign_up_begin(
        &self,
        _typed: &str,
        _previous: Option<&str>,
        _setup_link: Option<&str>,
        _client: &Client,
    ) -> Result<Token> {
        todo!()
    }

    /// Where this browser's sign-up stands. `Conflict` with a sentence when it expired.
    pub async fn sign_up(&self, _token: &str) -> Result<SignUp> {
        todo!()
    }

    /// Options for `navigator.credentials.create`, `{"publicKey": {..}}`.
    pub async fn sign_up_passkey_challenge(&self, _token: &str) -> Result<Value> {
        todo!()
    }

    /// Takes the browser's answer.
    pub async fn sign_up_passkey(&self, _token: &str, _answer: Value) -> Result<()> {
        todo!()
    }

    /// Confirms the one-time-code app with one code.
    pub async fn sign_up_code(&self, _token: &str, _code: &str) -> Result<()> {
        todo!()
    }

    /// Makes account, session and instance, all or nothing, and begins to make the container.
    pub async fn sign_up_finish(&self, _token: &str, _client: &Client) -> Result<(SignedIn, Arc<Instance>)> {
        todo!()
    }

    // ---- Logging in and out.

    /// A token for the login cookie, and options for `navigator.credentials.get` without a list of credentials.
    pub async fn log_in_challenge(&self) -> Result<(Token, Value)> {
        todo!()
    }

    /// Takes the browser's answer. Whatever is wrong with it, the error is the same.
    pub async fn log_in(&self, _token: &str, _answer: Value, _device: Option<&str>, _client: &Client) -> Result<LogIn> {
        todo!()
    }

    /// The second half, where a one-time code was asked for.
    pub async fn log_in_code(&self, _token: &str, _code: &str, _client: &Client) -> Result<SignedIn> {
        todo!()
    }

    /// A recovery code and a one-time code together log in, end every other session, and ask for a new passkey.
    pub async fn recover(
        &self,
        _handle: &str,
        _recovery_code: &str,
        _code: &str,
        _client: &Client,
    ) -> Result<SignedIn> {
        todo!()
    }

    /// Who holds this cookie of `audience` (a hostname without port). Answered from memory for up to two seconds.
    pub async fn authenticate(&self, _audience: &str, _token: &str) -> Result<Option<Session>> {
        todo!()
    }

    /// Ends the session and every instance session that came from it.
    pub async fn log_out(&self, _session: &Session) -> Result<()> {
        todo!()
    }

    /// The logins of an account on the app host, the current one first.
    pub async fn sessions(&self, _current: &Session) -> Result<Vec<SessionView>> {
        todo!()
    }

    /// Ends one of the caller's own sessions. Another's is `NotFound`.
    pub async fn session_end(&self, _current: &Session, _id: SessionId) -> Result<()> {
        todo!()
    }

    // ---- Passkeys of an account.

    pub async fn passkeys(&self, _session: &Session) -> Result<Vec<PasskeyView>> {
        todo!()
    }

    /// Options for `navigator.credentials.create`; the answer goes to [`Accounts::passkey_add`].
    pub async fn passkey_challenge(&self, _session: &Session) -> Result<(Token, Value)> {
        todo!()
    }

    pub async fn passkey_add(&self, _session: &Session, _token: &str, _answer: Value) -> Result<()> {
        todo!()
    }

    // ---- Hand-off to an instance's host.

    /// A code for 30 seconds and one use, bound to the host, the state and the challenge (base64url of SHA-256 of the verifier).
    pub async fn hand_off(&self, _session: &Session, _host: &str, _state: &str, _challenge: &str) -> Result<Token> {
        todo!()
    }

    /// Swaps the code for a session on `host` that ends with its parent, or after 12 hours. `None`: wrong, used or expired.
    pub async fn hand_off_redeem(
        &self,
        _host: &str,
        _code: &str,
        _state: &str,
        _verifier: &str,
        _client: &Client,
    ) -> Result<Option<Token>> {
        todo!()
    }

    // ---- The operator.

    /// A new one-time set-up link's token, while there is no account at all; the one before stops working.
    pub async fn setup_link(&self) -> Result<Token> {
        todo!()
    }

    pub async fn accounts(&self) -> Result<Vec<AccountView>> {
        todo!()
    }

    pub async fn account(&self, _handle: &Handle) -> Result<AccountView> {
        todo!()
    }

    /// Ends every session, stops the instance, and lets nobody log in or wake it. `actor` goes into the audit.
    pub async fn suspend(&self, _handle: &Handle, _actor: &str) -> Result<()> {
        todo!()
    }

    /// Undoes [`Accounts::suspend`].
    pub async fn restore(&self, _handle: &Handle, _actor: &str) -> Result<()> {
        todo!()
    }

    /// Deletes expired challenges, sign-ups, sessions and set-up links, in bounded batches; how many rows went.
    pub async fn purge_expired(&self) -> Result<u64> {
        todo!()
    }
}
