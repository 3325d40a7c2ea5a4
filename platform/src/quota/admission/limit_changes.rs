//! Reads and changes an account's own limits and its credit, with an audit entry for each change.

use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;

use super::account_limits::{AccountLimits, CreditGrant};
use super::accounts::Admission;
use super::store::{self, NewCredit};
use crate::config::CallLimits;
use crate::db::AccountId;
use crate::db::audit::{self, AuditEntry};
use crate::quota::prices::dollars;

impl Admission {
    /// The limits that apply to `account`: its own, and the installation's where it has none.
    pub async fn limits(&self, account: AccountId) -> Result<CallLimits> {
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
