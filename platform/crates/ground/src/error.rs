//! The error type of the modules' use-cases, without HTTP: the HTTP layers turn it into a page or problem+json, the
//! command line into a line of text.

use std::time::Duration;

/// The error of every use-case. `Display` is written for the user and never repeats a source's text; the chain behind
/// [`Error::Internal`] is logged once, by the layer that answers.
///
/// Any use-case that reads or writes the database may return [`Error::Unavailable`] or [`Error::Internal`] for it; the
/// documentation of a function names only the errors that it adds.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing does not exist, or the caller must not learn that it does.
    #[error("There is nothing here by that name.")]
    NotFound,
    /// Validation failed; `field` is the name of the form or JSON field.
    #[error("{message}")]
    Invalid { field: &'static str, message: String },
    /// The request conflicts with the current state, or comes too late.
    #[error("{0}")]
    Conflict(String),
    /// The request carries no valid session.
    #[error("Please log in first.")]
    Unauthenticated,
    /// The session is valid, but its account may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// A rate limit was exceeded; the caller may retry after `retry_after`.
    #[error("{message}")]
    TooMany { message: String, retry_after: Duration },
    /// A dependency (database, container engine, provider) does not answer; the caller may retry after `retry_after`.
    #[error("{message}")]
    Unavailable { message: String, retry_after: Duration },
    /// A bug or an unexpected failure on our side.
    #[error("Something went wrong on our side. It has been noted; please try again.")]
    Internal(#[from] anyhow::Error),
}

impl Error {
    /// Makes an [`Error::Invalid`].
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }
}

/// The result of a use-case.
pub type Result<T> = std::result::Result<T, Error>;
