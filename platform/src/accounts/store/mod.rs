//! The SQL of this module. Entities stay private; functions take and return the module's own types.

mod accounts;
mod credentials;
mod departures;
mod pending;
mod sessions;

pub(super) use accounts::*;
use berth_ground::error::{Error, Result};
pub(super) use credentials::*;
pub(super) use departures::*;
pub(super) use pending::*;
use sea_orm::DbErr;
pub(super) use sessions::*;

use crate::db;
pub(super) use crate::db::audit::{AuditEntry, blank_audit_of, record};

/// Most rows that one purge deletes from a table: bounds how long it occupies the database's only writer.
pub(super) const PURGE_BATCH: u64 = 1000;

/// The result of an insert, with `Conflict(sentence)` for the violation of a unique constraint.
fn conflict_if_duplicate<T>(written: std::result::Result<T, DbErr>, sentence: &str) -> Result<()> {
    match written {
        Ok(_) => Ok(()),
        Err(error) if db::is_duplicate(&error) => Err(Error::Conflict(sentence.to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// The error for a stored value that this version of Berth cannot parse.
fn unreadable(what: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{what} in the database cannot be read"))
}
