//! What single accounts may do: limits of their own, and credit.

use crate::config::Limits;
use crate::db::{AccountId, audit};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::quota::entities::credits;
use crate::quota::{Inner, OwnLimits, Quota, dollars, lock, store};

impl Quota {
    /// What `account` may do now: its own limits, and the installation's where it has none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn limits(&self, account: AccountId) -> Result<Limits> {
        Ok(self.own_limits(account).await?.over(self.0.limits))
    }

    /// The limits that `account` has of its own; each that it has not is `None`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn own_limits(&self, account: AccountId) -> Result<OwnLimits> {
        let own = store::own_limits(self.0.db.read(), account).await?;
        Ok(own.unwrap_or(OwnLimits {
            account_id: account,
            month_nanodollars: None,
            day_nanodollars: None,
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: None,
        }))
    }

    /// Gives `account` limits of its own, `None`s the installation's. The platform that makes its calls has to be told
    /// with [`Quota::reread`].
    ///
    /// # Errors
    /// A sentence when a limit makes no sense; when the database does not answer.
    pub async fn set_limits(&self, handle: &Handle, own: OwnLimits, by: &str) -> Result<()> {
        let said =
            [own.month_nanodollars, own.day_nanodollars, own.requests_a_minute, own.tokens_a_minute, own.calls_at_once];
        if said.iter().flatten().any(|limit| *limit < 0) {
            return Err(Error::invalid("limits", "A limit cannot be less than nothing."));
        }
        let tx = self.0.db.begin().await?;
        let words = serde_json::to_string(&own).map_err(anyhow::Error::new)?;
        let entry = audit::AuditEntry { actor: by, action: "limit", subject: handle.as_str(), detail: &words };
        audit::record(&tx, &self.0.clock, &entry).await?;
        store::set_limits(&tx, own).await?;
        tx.commit().await
    }

    /// Gives `account` money beyond its allowances, or with a minus takes it back. It lasts until it is used.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn give_credit(
        &self,
        (account, handle): (AccountId, &Handle),
        nanodollars: i64,
        note: &str,
        by: &str,
    ) -> Result<()> {
        let Inner { db, clock, .. } = &*self.0;
        let tx = db.begin().await?;
        let credit = credits::Model {
            id: clock.uuid(),
            account_id: account,
            amount_nanodollars: nanodollars,
            note: note.to_owned(),
            at_ms: clock.now().0,
        };
        let entry = audit::AuditEntry {
            actor: by,
            action: "give_credit",
            subject: handle.as_str(),
            detail: &dollars(nanodollars),
        };
        audit::record(&tx, clock, &entry).await?;
        store::add_credit(&tx, credit).await?;
        tx.commit().await
    }

    /// Takes over limits and credit of `account` that were written since its books were opened. Its calls go on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reread(&self, account: AccountId) -> Result<()> {
        let books = self.0.account(account).await?;
        let (limits, granted) = (self.limits(account).await?, store::credit_granted(self.0.db.read(), account).await?);
        lock(&books).limit(limits, granted);
        Ok(())
    }
}
