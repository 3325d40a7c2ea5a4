//! Accounts and authentication: handles, passkeys (WebAuthn), one-time codes (TOTP), recovery codes, sessions.
//!
//! One file per use-case: `sign_up`, `log_in`, `recovery`, `sessions`, `passkeys`, `hand_off`, `operator`, `deletion`.

mod ceremonies;
mod deletion;
mod hand_off;
mod limits;
mod log_in;
mod one_time_codes;
mod operator;
mod passkeys;
mod recovery;
mod registration;
mod rules;
mod session;
mod session_cache;
mod sessions;
mod sign_up;
mod store;

use std::sync::Arc;

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::handle::{Handle, HandleError};
use berth_ground::secrets::{InstallationKeys, Token};
use berth_net::hosts::Hosts;
use ceremonies::PasskeyCeremonies;
pub use hand_off::SESSION_LIFETIME as INSTANCE_SESSION_LIFETIME;
use limits::AccountRateLimits;
pub use log_in::DEVICE_KNOWN_FOR;
pub use rules::LONGEST_SESSION;
use serde::Serialize;
pub use session::{Role, Session};
use session_cache::SessionCache;
pub use sign_up::SIGN_UP_LIVES;

use crate::certificates::Certificates;
use crate::db::{AccountId, Db, SessionId};
use crate::domains::Domains;
use crate::instances::Instances;
use crate::sharing::Sharing;
pub use berth_net::peer::Client;

/// The module's interface. Clones share one state.
#[derive(Clone)]
pub struct Accounts(Arc<AccountsInner>);

struct AccountsInner {
    db: Db,
    keys: InstallationKeys,
    clock: Clock,
    hosts: Hosts,
    signups_open: bool,
    instances: Instances,
    certificates: Certificates,
    sharing: Sharing,
    domains: Domains,
    ceremonies: PasskeyCeremonies,
    limits: AccountRateLimits,
    session_cache: SessionCache,
}

/// The modules that accounts call.
pub struct AccountsContext {
    pub instances: Instances,
    /// A sign-up reserves the certificate of its instance's host.
    pub certificates: Certificates,
    /// With `domains`, decides to which hosts a hand-off may lead.
    pub sharing: Sharing,
    pub domains: Domains,
}

/// A row in a person's list of sessions.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    pub id: SessionId,
    /// Browser and system, read from the user agent: "Chrome on Linux".
    pub device: String,
    /// The client's address without its last part: `203.0.113.*`.
    pub ip: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    /// Whether the request that reads the list belongs to this session.
    pub current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleAvailability {
    Free,
    /// An account or a live sign-up has this handle or a look-alike. `suggestions` are free handles similar to it.
    Taken {
        suggestions: Vec<Handle>,
    },
    Invalid(HandleError),
}

/// A sign-up in progress.
#[derive(Clone, Debug)]
pub struct SignUpView {
    pub handle: Handle,
    pub step: SignUpStep,
}

/// The next step of a sign-up. Each step opens when the previous one is done; going back is always possible.
#[derive(Clone, Debug)]
pub enum SignUpStep {
    Passkey,
    OneTimeCode {
        /// The `otpauth://` URI that the QR code encodes.
        uri: String,
        /// The same secret in base32, for manual entry.
        secret: String,
    },
    /// Ten codes of five groups of five characters, shown until the person confirms that they are saved.
    RecoveryCodes(Vec<String>),
}

/// The tokens of a session that was just opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub account: AccountId,
    pub handle: Handle,
    /// Value of the app host's session cookie.
    pub session: Token,
    /// Value of the device cookie, by which later logins recognize this browser.
    pub device: Token,
}

#[derive(Clone, Debug)]
pub enum LogInOutcome {
    Complete(NewSession),
    /// The passkey was accepted and a one-time code is required as well. The token identifies the pending login.
    CodeRequired(Token),
}

/// An account as shown to the operator.
#[derive(Clone, Debug, Serialize)]
pub struct AccountView {
    pub id: AccountId,
    pub handle: Handle,
    pub role: Role,
    pub state: AccountState,
    pub passkeys: u64,
    pub recovery_codes_left: u64,
    pub created_at: Timestamp,
}

/// The lifecycle state of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    Active,
    /// Suspended by the operator: logins are refused, and the instance does not run.
    Suspended,
    /// Scheduled for deletion, which can still be cancelled. Stored as `leaving`.
    Deleting,
    /// Final. The handle is never reassigned. Stored as `gone`.
    Deleted,
}

/// A deletion that is scheduled and can still be cancelled.
#[derive(Clone, Copy, Debug)]
pub struct ScheduledDeletion {
    /// When the account's files and credentials are destroyed.
    pub due: Timestamp,
    /// `false` when the operator scheduled the deletion: only the operator can then cancel it.
    pub owner_may_cancel: bool,
}

/// A row in a person's list of passkeys.
#[derive(Clone, Debug, Serialize)]
pub struct PasskeyView {
    pub id: uuid::Uuid,
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

impl Accounts {
    /// `signups_open` tells whether anyone may sign up; otherwise only the holder of a set-up link can.
    ///
    /// # Errors
    /// When `hosts` cannot be a WebAuthn relying party, for example because the domain is an IP address.
    pub fn new(
        db: Db,
        keys: InstallationKeys,
        clock: Clock,
        hosts: Hosts,
        signups_open: bool,
        AccountsContext { instances, certificates, sharing, domains }: AccountsContext,
    ) -> anyhow::Result<Self> {
        let ceremonies = PasskeyCeremonies::new(&hosts)?;
        let limits = AccountRateLimits::new(clock.clone());
        let session_cache = SessionCache::default();
        Ok(Self(Arc::new(AccountsInner {
            db,
            keys,
            clock,
            hosts,
            signups_open,
            instances,
            certificates,
            sharing,
            domains,
            ceremonies,
            limits,
            session_cache,
        })))
    }
}
