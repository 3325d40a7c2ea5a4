//! Admission: whether a call may be made, by all limits of its account at once.

pub(super) mod account_limits;
pub(super) mod books;
pub(super) mod refusal;
pub(super) mod shortening;
