//! What single accounts may do: limits of their own, and credit.

use serde::Serialize;

use super::accounts::Admission;
use super::store::{self, NewCredit};
use crate::config::Limits;
use crate::db::AccountId;
use crate::db::audit::{self, AuditEntry};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::money::Nanodollars;
use crate::quota::prices::dollars;

/// An account's own limits; each that it has not is `None`, and the installation's holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLimits {
    #[serde(skip)]
    pub account_id: AccountId,
    pub month_nanodollars: Option<Nanodollars>,
    pub day_nanodollars: Option<Nanodollars>,
    pub requests_a_minute: Option<i64>,
    pub tokens_a_minute: Option<i64>,
    pub calls_at_once: Option<i64>,
}

impl AccountLimits {
    fn none(account_id: AccountId) -> Self {
        Self {
            account_id,
            month_nanodollars: None,
            day_nanodollars: None,
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: None,
        }
    }

    /// These limits where they say something, `usual` where they do not.
    #[must_use]
    pub fn over(&self, usual: Limits) -> Limits {
        let small = |own: Option<i64>, usual| own.map_or(usual, |own| Some(u32::try_from(own).unwrap_or(u32::MAX)));
        Limits {
            month_nanodollars: self.month_nanodollars.unwrap_or(usual.month_nanodollars),
            day_nanodollars: self.day_nanodollars.or(usual.day_nanodollars),
            requests_a_minute: small(self.requests_a_minute, usual.requests_a_minute),
            tokens_a_minute: small(self.tokens_a_minute, usual.tokens_a_minute),
            calls_at_once: small(self.calls_at_once, Some(usual.calls_at_once)).unwrap_or(usual.calls_at_once),
        }
    }
}

impl Admission {
    /// What `account` may do now: its own limits, and the installation's where it has none.
    pub async fn limits(&self, account: AccountId) -> Result<Limits> {
        Ok(self.own_limits(account).await?.over(self.limits))
    }

    /// The limits that `account` has of its own; each that it has not is `None`.
    pub async fn own_limits(&self, account: AccountId) -> Result<AccountLimits> {
        let own = store::own_limits(self.db.read(), account).await?;
        Ok(own.unwrap_or_else(|| AccountLimits::none(account)))
    }

    /// Gives `account` limits of its own, `None`s the installation's. The platform that makes its calls has to be told
    /// with [`Admission::reload`].
    ///
    /// # Errors
    /// A sentence when a limit makes no sense.
    pub async fn set_limits(&self, handle: &Handle, own: AccountLimits, by: &str) -> Result<()> {
        let amounts = [own.month_nanodollars, own.day_nanodollars].map(|limit| limit.map(|amount| amount.0));
        let counts = [own.requests_a_minute, own.tokens_a_minute, own.calls_at_once];
        if amounts.into_iter().chain(counts).flatten().any(|limit| limit < 0) {
            return Err(Error::invalid("limits", "A limit cannot be less than nothing."));
        }
        let tx = self.db.begin().await?;
        let words = serde_json::to_string(&own).map_err(anyhow::Error::new)?;
        let entry = AuditEntry { actor: by, action: "limit", subject: handle.as_str(), detail: &words };
        audit::record(&tx, &self.clock, &entry).await?;
        store::set_limits(&tx, own).await?;
        tx.commit().await
    }

    /// Gives an account money beyond its allowances, or with a minus takes it back. It lasts until it is used.
    pub async fn give_credit(&self, credit: CreditGrant<'_>, by: &str) -> Result<()> {
        let CreditGrant { account, handle, nanodollars, note } = credit;
        let (id, at) = (self.clock.uuid(), self.clock.now());
        let tx = self.db.begin().await?;
        let entry =
            AuditEntry { actor: by, action: "give_credit", subject: handle.as_str(), detail: &dollars(nanodollars) };
        audit::record(&tx, &self.clock, &entry).await?;
        store::add_credit(&tx, NewCredit { id, account, nanodollars, note, at }).await?;
        tx.commit().await
    }

    /// Takes over limits and credit of `account` that were written since its books were opened. Its calls go on.
    pub async fn reload(&self, account: AccountId) -> Result<()> {
        let books = self.books(account).await?;
        let (limits, granted) = (self.limits(account).await?, store::credit_granted(self.db.read(), account).await?);
        books.lock().limit(limits, granted);
        Ok(())
    }
}

/// Money for one account beyond its allowances.
#[derive(Clone, Copy, Debug)]
pub struct CreditGrant<'a> {
    pub account: AccountId,
    /// For the audit.
    pub handle: &'a Handle,
    /// Below zero, it is taken back.
    pub nanodollars: Nanodollars,
    /// What it is for; the account's owner sees it.
    pub note: &'a str,
}
