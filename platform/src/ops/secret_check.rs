//! The key check of `BERTH_SECRET`: a check value in the database tells whether the secret of this process is the one
//! with which the stored values were encrypted.
//!
//! Without it a wrong secret goes unnoticed: pages and calls work, new values are encrypted with the wrong keys, and
//! the old ones are unreadable.

use anyhow::Context as _;
use berth_ground::secrets::check_value;

use super::store;
use crate::db::Db;
use crate::modules::{Finding, Modules, SealedSample};

const MISMATCH: &str = "BERTH_SECRET is not the secret of this database: the one-time-code secrets and own keys in it were encrypted \
     with another one. Set BERTH_SECRET to that one, from the copy of berth.env (scripts/up), secrets.env \
     (scripts/deploy) or .env (compose) that belongs to this database, or set DATABASE_URL to the database of this secret.";

/// The relation of `BERTH_SECRET` to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretMatch {
    /// The database holds the check value of this secret.
    Confirmed,
    /// The database holds no check value, and no value that only another secret decrypts.
    Unrecorded,
    Mismatch,
}

/// Compares `secret`, the value of `BERTH_SECRET`, with the database. Changes nothing.
///
/// # Errors
/// When the database does not answer.
pub async fn compare_secret(db: &Db, modules: &Modules, secret: &str) -> anyhow::Result<SecretMatch> {
    if let Some(recorded) = store::secret_check(db).await.context("reading the check value of BERTH_SECRET")? {
        return Ok(if recorded == check_value(secret) { SecretMatch::Confirmed } else { SecretMatch::Mismatch });
    }
    let samples = modules.sealed_samples().await.context("trying BERTH_SECRET on the stored values")?;
    // One that opens is enough: in a database whose secret was once replaced unnoticed, no secret opens all of them.
    let is_other = samples.contains(&SealedSample::DoesNotOpen) && !samples.contains(&SealedSample::Opens);
    Ok(if is_other { SecretMatch::Mismatch } else { SecretMatch::Unrecorded })
}

/// Refuses a secret that is not the one of the database.
///
/// # Errors
/// A sentence that says what to set; or when the database does not answer.
pub async fn refuse_other_secret(db: &Db, modules: &Modules, secret: &str) -> anyhow::Result<()> {
    anyhow::ensure!(compare_secret(db, modules, secret).await? != SecretMatch::Mismatch, MISMATCH);
    Ok(())
}

/// Like [`refuse_other_secret`]; records the check value in a database that has none.
///
/// # Errors
/// As [`refuse_other_secret`]; or when the database cannot be written.
pub async fn confirm_secret(db: &Db, modules: &Modules, secret: &str) -> anyhow::Result<()> {
    refuse_other_secret(db, modules, secret).await?;
    store::record_secret_check(db, &check_value(secret)).await.context("recording the check value of BERTH_SECRET")?;
    // Again: of two processes that start on one new database with different secrets, one has recorded its value first.
    refuse_other_secret(db, modules, secret).await
}

/// What `berth doctor` reports about the secret.
pub(super) async fn examine_secret(db: &Db, modules: &Modules, secret: &str) -> Finding {
    match compare_secret(db, modules, secret).await {
        Ok(SecretMatch::Confirmed) => Finding::fine("secret", "BERTH_SECRET is the one of this database".into()),
        Ok(SecretMatch::Unrecorded) => {
            Finding::fine("secret", "the next start of berth serve records which BERTH_SECRET the database has".into())
        }
        Ok(SecretMatch::Mismatch) => Finding::broken("secret", MISMATCH.into()),
        Err(error) => Finding::broken("secret", format!("{error:#}")),
    }
}
