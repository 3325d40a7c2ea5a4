//! A live login, and the role of its account.

use berth_ground::handle::Handle;
use serde::Serialize;

use crate::db::{AccountId, SessionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Member,
    /// Has the operator's rights.
    Admin,
}

/// A live login on one host.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub account: AccountId,
    pub handle: Handle,
    pub role: Role,
    /// Whether the account is scheduled for deletion. Such a session may cancel the deletion and do nothing else.
    pub deletion_scheduled: bool,
}
