//! Alerts that are shown and told: the ledger raises them, a job writes a letter for each, in the transaction that notes it,
//! so that none is written twice.

use bytes::Bytes;
use serde_json::json;

use super::spending::Reports;
use super::store;
use crate::db::AccountId;
use crate::error::Result;
use crate::instances::Instances;
use crate::mailbox::{Mailbox, NotTaken, Parcel};
use crate::quota::calendar::{Day, Month, Period};
use crate::quota::ledger::BudgetAlert;

/// Where a program is told, once its owner has opened that path.
pub const WEBHOOK_PATH: &str = "/_berth/quota";
/// Alerts that are told in one go; those left are told in the next.
const AT_ONCE: u64 = 200;

impl Reports {
    /// The alerts of `account` about this month and today, as they were raised.
    pub async fn alerts(&self, account: AccountId) -> Result<Vec<BudgetAlert>> {
        self.ledger.settled().await;
        let now = self.clock.now();
        store::alerts_of(self.db.read(), account, [Period::Month(Month::of(now)), Period::Day(Day::of(now))]).await
    }

    /// Writes a letter for each alert that was not told yet, where its owner opened [`WEBHOOK_PATH`]; elsewhere the pages
    /// tell alone. How many letters.
    ///
    /// # Errors
    /// When the database does not answer; what is left is told the next time.
    pub async fn tell_alerts(&self, instances: &Instances, mailbox: &Mailbox) -> Result<u64> {
        let Self { db, clock, .. } = self;
        let mut letters = 0;
        for alert in store::untold(db.read(), AT_ONCE).await? {
            let instance = instances
                .by_account(alert.account_id)
                .filter(|instance| !instance.status().wish.is_closed() && mailbox.is_open(instance.id, WEBHOOK_PATH));
            let tx = db.begin().await?;
            if !store::mark_told(&tx, &alert, clock.now()).await? {
                continue;
            }
            let posted = match instance {
                Some(instance) => match mailbox.post_in(&tx, instance.id, letter(&alert)).await {
                    Ok(posted) => Some(posted),
                    Err(NotTaken::Full(sentence)) => {
                        tracing::warn!(instance.id = %instance.id, sentence, "an alert could not be put into the mailbox");
                        None
                    }
                    Err(NotTaken::Failed(error)) => return Err(error),
                },
                None => None,
            };
            tx.commit().await?;
            if let Some(posted) = posted {
                posted.carry();
                letters += 1;
            }
        }
        Ok(letters)
    }
}

fn letter(alert: &BudgetAlert) -> Parcel {
    let body = json!({
        "span": match alert.period {
            Period::Month(_) => "month",
            Period::Day(_) => "day",
        },
        "period": alert.period,
        "percent": alert.percent,
        "allowance_nanodollars": alert.allowance_nanodollars,
        "spent_nanodollars": alert.spent_nanodollars,
        "raised_at_ms": alert.raised_at_ms,
    });
    let header = |name: &str, value: String| (name.to_owned(), value);
    Parcel {
        method: "POST".into(),
        target: WEBHOOK_PATH.into(),
        // Nobody else can send the second: what comes from outside has such names removed.
        headers: vec![
            header("content-type", "application/json".into()),
            header("x-berth-quota", alert.percent.to_string()),
        ],
        body: Bytes::from(body.to_string()),
    }
}
