//! Conversions from and to sea-orm's types. They are in this crate because of the orphan rule: an impl belongs to the
//! crate of its type or of its trait.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

use crate::clock::Timestamp;
use crate::error::Error;

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_gone(&error) {
            tracing::error!(error = %error, "the database does not answer");
            return Self::Unavailable {
                message: "Berth cannot reach its database just now. Please try again in a moment.".into(),
                retry_after: Duration::from_secs(5),
            };
        }
        if is_disk_full(&error) {
            tracing::error!(error = %error, "the disk under the database is full");
            return Self::Unavailable {
                message: "The server's disk is full; the operator has to free some space. Nothing was lost.".into(),
                retry_after: Duration::from_secs(60),
            };
        }
        Self::Internal(anyhow::Error::new(error).context("database"))
    }
}

/// Whether the connection failed, and not the statement.
fn is_gone(error: &DbErr) -> bool {
    matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_))
}

fn is_disk_full(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    // SQLITE_FULL (sqlite.org/rescode.html), and disk_full of PostgreSQL (its manual's appendix A).
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "13" || code == "53100")
}

impl From<Timestamp> for sea_orm::Value {
    fn from(at: Timestamp) -> Self {
        at.0.into()
    }
}
