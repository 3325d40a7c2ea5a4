//! Accounts: who a person is and how they prove it. Handles, passkeys, one-time codes, recovery codes, sessions.
//!
//! One file a story: `sign_up`, `log_in`, `recovery`, `sessions`, `passkeys`, `hand_off`, `operator`, `leaving`.

mod ceremonies;
mod hand_off;
mod leaving;
mod limits;
mod log_in;
mod one_time_codes;
mod operator;
mod passkeys;
mod recovery;
mod registration;
mod rules;
mod session_memory;
mod sessions;
mod sign_up;
mod store;

use std::sync::Arc;

use ceremonies::Ceremonies;
pub use hand_off::SESSION_LIVES as INSTANCE_SESSION_LIVES;
use limits::Limits;
pub use log_in::DEVICE_KNOWN_FOR;
pub use rules::LONGEST_SESSION;
use serde::Serialize;
use session_memory::SessionMemory;
pub use sign_up::SIGN_UP_LIVES;

pub use crate::client::Client;
use crate::clock::{Clock, Timestamp};
use crate::db::{AccountId, Db, SessionId};
use crate::domains::Domains;
use crate::handle::{Handle, HandleError};
use crate::hosts::Hosts;
use crate::instances::Instances;
use crate::secrets::{InstallationKeys, Token};
use crate::sharing::Sharing;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    db: Db,
    keys: InstallationKeys,
    clock: Clock,
    hosts: Hosts,
    signups_open: bool,
    instances: Instances,
    sharing: Sharing,
    domains: Domains,
    ceremonies: Ceremonies,
    limits: Limits,
    memory: SessionMemory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Member,
    /// Has the operator's rights.
    Admin,
}

/// The modules that accounts call.
pub struct AccountsContext {
    pub instances: Instances,
    /// With `domains`: where a hand-off may lead.
    pub sharing: Sharing,
    pub domains: Domains,
}

/// Somebody logged in, on one host.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub account: AccountId,
    pub handle: Handle,
    pub role: Role,
    /// Whether the account leaves: then this session is good for keeping it, and for nothing else.
    pub leaving: bool,
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
    pub standing: Standing,
    pub passkeys: u64,
    pub recovery_codes_left: u64,
    pub created_at: Timestamp,
}

/// How it stands with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Active,
    /// By the operator: nobody logs in, nothing runs.
    Suspended,
    /// Given up; it can still be kept.
    Leaving,
    /// Destroyed. Its handle is never given again.
    Gone,
}

/// An account that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// When it is destroyed.
    pub due: Timestamp,
    /// Whether its owner can keep it; else only the operator can, who asked.
    pub may_stay: bool,
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
    /// Opens the room. `signups_open`: whether a sign-up needs no set-up link.
    ///
    /// # Errors
    /// When `hosts` cannot be used for passkeys, as when the domain is an IP address.
    pub fn new(
        db: Db,
        keys: InstallationKeys,
        clock: Clock,
        hosts: Hosts,
        signups_open: bool,
        AccountsContext { instances, sharing, domains }: AccountsContext,
    ) -> anyhow::Result<Self> {
        let ceremonies = Ceremonies::new(&hosts)?;
        let limits = Limits::new(clock.clone());
        let memory = SessionMemory::default();
        Ok(Self(Arc::new(Inner {
            db,
            keys,
            clock,
            hosts,
            signups_open,
            instances,
            sharing,
            domains,
            ceremonies,
            limits,
            memory,
        })))
    }
}
