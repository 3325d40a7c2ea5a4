//! Limits and credit of single accounts.

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

/// The limits of one account. `None`: the installation's limit applies.
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

    /// These limits, and those of `usual` where there is `None`.
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
    /// The limits that apply to `account`: its own, and the installation's where it has none.
    pub async fn limits(&self, account: AccountId) -> Result<Limits> {
        Ok(self.own_limits(account).await?.over(self.limits))
    }

    /// The limits that were set for `account` alone.
    pub async fn own_limits(&self, account: AccountId) -> Result<AccountLimits> {
        let own = store::own_limits(self.db.read(), account).await?;
        Ok(own.unwrap_or_else(|| AccountLimits::none(account)))
    }

    /// Sets the limits of one account. The platform that makes its calls applies them after [`Admission::reload`].
    ///
    /// # Errors
    /// `Invalid` when a limit is below zero.
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

    /// Gives an account credit beyond its allowances, or takes it back when the amount is below zero. Credit does not
    /// expire.
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

    /// Applies limits and credit that were written since the books of `account` were opened. Calls in flight go on.
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
