//! The head of every page for a signed-in account: what the navigation of `pages/shared/account.html` shows.

use crate::accounts::{Role, Session};

/// The account that the page is for.
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
