//! One-time codes (TOTP, RFC 6238): 160-bit secrets, SHA-1, six digits, 30-second steps, which every authenticator app
//! supports. A code is accepted once, with a clock skew of one step; wrong codes are throttled by exponential backoff.

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use totp_rs::{Builder, Secret, Totp};

use super::rules::{self, CodeGate};
use super::store::{self, StoredAccount};
use super::{Accounts, AccountsInner};
use crate::db::{AccountId, Tx};
use crate::modules::SealedSample;

/// The result of trying a code.
pub(super) enum CodeOutcome {
    Accepted,
    /// The failure was counted in the caller's transaction, which must be committed nevertheless.
    Rejected(Error),
}

/// Whether a hundred wrong codes in a row lock the account out. A login with a recovery code stays possible, as the way
/// out of the lockout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockoutPolicy {
    Refuse,
    AllowRecovery,
}

impl Accounts {
    /// Tries a code for `person`, who must have been read with [`store::lock_account`] in `tx`: the row lock serializes
    /// concurrent attempts, so that each is counted.
    pub(super) async fn try_code(
        &self,
        tx: &Tx,
        person: &StoredAccount,
        typed: &str,
        after: LockoutPolicy,
    ) -> Result<CodeOutcome> {
        let now = self.0.clock.now();
        match (rules::code_gate(person.totp_failures, person.totp_blocked_until, now), after) {
            (CodeGate::Open, _) => {}
            (CodeGate::Closed, LockoutPolicy::AllowRecovery) if person.totp_blocked_until <= now => {}
            (CodeGate::Closed, LockoutPolicy::Refuse) => return Ok(CodeOutcome::Rejected(closed())),
            (CodeGate::Wait(_) | CodeGate::Closed, _) => {
                return Ok(CodeOutcome::Rejected(wait(person.totp_blocked_until.since(now))));
            }
        }
        match self.0.code_step(person.id, &person.totp_secret, typed, now)? {
            // RFC 6238, 5.2: a code must not be accepted twice. `use_code` advances the last used step by
            // compare-and-set, which also refuses older codes of the window. A reused code was no guess, so it is
            // rejected without being counted as a failure.
            Some(step) => Ok(if store::use_code(tx, person.id, step).await? { CodeOutcome::Accepted } else { wrong() }),
            None => {
                let failures = person.totp_failures + 1;
                store::note_wrong_code(tx, person.id, failures, now.plus(rules::wait_after(failures))).await?;
                Ok(wrong())
            }
        }
    }
}

impl Accounts {
    /// Tries to decrypt the secret of the oldest account.
    pub(super) async fn try_totp_secret(&self) -> Result<SealedSample> {
        let Some((account, sealed)) = store::oldest_totp_secret(self.0.db.read()).await? else {
            return Ok(SealedSample::Absent);
        };
        let opened = self.0.keys.open(account.0.as_bytes(), &sealed);
        Ok(if opened.is_ok() { SealedSample::Opens } else { SealedSample::DoesNotOpen })
    }
}

impl AccountsInner {
    /// A new secret, encrypted (sealed) for `account`.
    pub(super) fn new_totp_secret(&self, account: AccountId) -> Vec<u8> {
        self.keys.seal(account.0.as_bytes(), &self.clock.random::<20>())
    }

    /// The `otpauth://` URI for the QR code, and the secret in base32 for typing by hand.
    pub(super) fn totp_to_show(&self, account: AccountId, sealed: &[u8], handle: &Handle) -> Result<(String, String)> {
        let totp = Builder::new()
            .with_secret(self.totp_secret(account, sealed)?)
            .with_issuer(Some("Berth"))
            .with_account_name(format!("{handle}@{}", self.hosts.apex))
            .build()
            .context("building a one-time-code secret")?;
        Ok((totp.to_url().context("writing an otpauth address")?, totp.secret().to_base32()))
    }

    /// The time step of a valid code, if it is the current step or one next to it.
    pub(super) fn code_step(
        &self,
        account: AccountId,
        sealed: &[u8],
        typed: &str,
        now: Timestamp,
    ) -> Result<Option<i64>> {
        let totp: Totp = Builder::new()
            .with_secret(self.totp_secret(account, sealed)?)
            .build()
            .context("building a one-time-code secret")?;
        // Apps show "123 456".
        let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
        // The library's default skew is one step to each side, which tolerates phone clocks up to 30 seconds off and
        // the time it takes to type (RFC 6238, 5.2 and 6).
        let step = totp.check(&digits, u64::try_from(now.seconds()).unwrap_or(0));
        Ok(step.and_then(|step| i64::try_from(step).ok()))
    }

    fn totp_secret(&self, account: AccountId, sealed: &[u8]) -> Result<Secret> {
        let plain = self.keys.open(account.0.as_bytes(), sealed).context("opening a one-time-code secret")?;
        Ok(Secret::from(plain.to_vec()))
    }
}

/// The single sentence for a code that is not accepted.
pub(super) fn wrong_code() -> Error {
    Error::invalid("code", "That code is wrong or was used already. Please wait for the next one in your app.")
}

fn wrong() -> CodeOutcome {
    CodeOutcome::Rejected(wrong_code())
}

fn wait(retry_after: std::time::Duration) -> Error {
    let message = "Too many wrong codes. Please wait a little before the next one.".into();
    Error::TooMany { message, retry_after }
}

fn closed() -> Error {
    Error::Forbidden("Too many wrong codes in a row. Please use one of your recovery codes.".into())
}
