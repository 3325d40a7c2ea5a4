//! All SQL of the room. Entities stay inside; what leaves are the room's own types.

mod departures;
mod pending;
mod people;
mod proofs;
mod sessions;

pub(super) use departures::*;
pub(super) use pending::*;
pub(super) use people::*;
pub(super) use proofs::*;
use sea_orm::DbErr;
pub(super) use sessions::*;

use crate::db;
pub(super) use crate::db::audit::{AuditEntry, blank_audit_of, record};
use crate::error::{Error, Result};

/// Rows that one call of a purge takes from one table: a bound on how long the writer is held.
pub(super) const PURGE_BATCH: u64 = 1000;

/// The result of an insert, with `sentence` as the error when the unique value is there already.
fn unless_taken<T>(written: std::result::Result<T, DbErr>, sentence: &str) -> Result<()> {
    match written {
        Ok(_) => Ok(()),
        Err(error) if db::is_duplicate(&error) => Err(Error::Conflict(sentence.to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// A stored value that this version of Berth cannot read.
fn unreadable(what: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{what} in the database cannot be read"))
}
