//! The page head of every signed-in page: the data of the navigation in `pages/shared/account.html`.

use crate::accounts::{Role, Session};

/// The signed-in account.
#[derive(Clone, Debug)]
pub struct PageHead {
    pub handle: String,
    /// Whether the navigation shows the operator's pages.
    pub is_admin: bool,
}

impl From<&Session> for PageHead {
    fn from(session: &Session) -> Self {
        Self { handle: session.handle.to_string(), is_admin: session.role == Role::Admin }
    }
}
