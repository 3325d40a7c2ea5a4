//! One-time codes (RFC 6238): 160-bit secrets, SHA-1, six digits, 30 seconds, as every app understands them. A code is
//! taken in its own time step and the ones beside it, once; wrong ones are slowed down.

use anyhow::Context as _;
use totp_rs::{Builder, Secret, Totp};

use super::rules::{self, CodeGate};
use super::store::{self, StoredAccount};
use super::{Accounts, AccountsInner};
use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::{Error, Result};
use crate::handle::Handle;

/// What became of a code that was tried.
pub(super) enum CodeOutcome {
    Right,
    /// The failure has been noted in the transaction, which must be committed all the same.
    Wrong(Error),
}

/// Whether a hundred wrong codes in a row end it. With a recovery code in hand they do not: it is the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockoutPolicy {
    Refuse,
    AllowRecovery,
}

impl Accounts {
    /// Tries a typed code for `person`, who was read with [`store::lock_account`] in `tx`.
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
            // A used code is no guess: it is noted as neither right nor wrong.
            Some(step) => Ok(if store::use_code(tx, person.id, step).await? { CodeOutcome::Accepted } else { wrong() }),
            None => {
                let failures = person.totp_failures + 1;
                store::note_wrong_code(tx, person.id, failures, now.plus(rules::wait_after(failures))).await?;
                Ok(wrong())
            }
        }
    }
}

impl AccountsInner {
    /// A new secret, sealed for `account`.
    pub(super) fn new_totp_secret(&self, account: AccountId) -> Vec<u8> {
        self.keys.seal(account.0.as_bytes(), &self.clock.random::<20>())
    }

    /// `otpauth://..` for the QR code, and the secret in base32 to type.
    pub(super) fn totp_to_show(&self, account: AccountId, sealed: &[u8], handle: &Handle) -> Result<(String, String)> {
        let totp = Builder::new()
            .with_secret(self.totp_secret(account, sealed)?)
            .with_issuer(Some("Berth"))
            .with_account_name(format!("{handle}@{}", self.hosts.apex))
            .build()
            .context("building a one-time-code secret")?;
        Ok((totp.to_url().context("writing an otpauth address")?, totp.secret().to_base32()))
    }

    /// The time step whose code was typed, within one of `now`; `None` when it is none of them.
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
        let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
        let step = totp.check(&digits, u64::try_from(now.seconds()).unwrap_or(0));
        Ok(step.and_then(|step| i64::try_from(step).ok()))
    }

    fn totp_secret(&self, account: AccountId, sealed: &[u8]) -> Result<Secret> {
        let plain = self.keys.open(account.0.as_bytes(), sealed).context("opening a one-time-code secret")?;
        Ok(Secret::from(plain.to_vec()))
    }
}

/// The one sentence for a code that does not count.
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
