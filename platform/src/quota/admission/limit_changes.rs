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
    /// What `account` may do now: its own limits, and the installation's where it has none.
    pub async fn limits(&self, account: AccountId) -> Result<CallLimits> {
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
        let said =
            [own.month_nanodollars, own.day_nanodollars, own.requests_a_minute, own.tokens_a_minute, own.calls_at_once];
        if said.iter().flatten().any(|limit| *limit < 0) {
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
