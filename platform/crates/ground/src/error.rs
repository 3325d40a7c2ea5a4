//! What can go wrong in a room, in words that know no HTTP. Doors turn it into a page, a problem+json or a line of text.

use std::time::Duration;

/// The error of every use-case. `Display` is written for the user and never repeats a source's text;
/// the chain behind [`Error::Internal`] is logged once, by the door where it stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, or the caller may not know that it does.
    #[error("There is nothing here by that name.")]
    NotFound,
    /// What was sent cannot be accepted; `field` is the name of the form or JSON field.
    #[error("{message}")]
    Invalid { field: &'static str, message: String },
    /// It clashes with what is there already, or comes too late.
    #[error("{0}")]
    Conflict(String),
    /// Nobody is logged in.
    #[error("Please log in first.")]
    Unauthenticated,
    /// Somebody is, but may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Too many tries; worth trying again after `retry_after`.
    #[error("{message}")]
    TooMany { message: String, retry_after: Duration },
    /// A part Berth stands on does not answer; worth trying again after `retry_after`.
    #[error("{message}")]
    Unavailable { message: String, retry_after: Duration },
    /// A fault of ours.
    #[error("Something went wrong on our side. It has been noted; please try again.")]
    Internal(#[from] anyhow::Error),
}

impl Error {
    /// An [`Error::Invalid`] in one call.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }
}

/// The result of a use-case.
pub type Result<T> = std::result::Result<T, Error>;
