//! Budget alerts as webhooks and on pages.
//!
//! The ledger raises an alert; a job enqueues its webhook, in the transaction that marks the alert as told, so that no
//! alert is told twice.

use berth_ground::error::Result;
use bytes::Bytes;
use serde_json::json;

use super::spending::Reports;
use super::store;
use crate::db::AccountId;
use crate::instances::Instances;
use crate::quota::calendar::{Day, Month, Period};
use crate::quota::ledger::BudgetAlert;
use crate::webhooks::{IntakeError, WebhookRequest, Webhooks};

/// The path at which an instance receives its alerts, once its owner has opened that path.
pub const ALERT_WEBHOOK_PATH: &str = "/_berth/quota";
/// The most alerts that one run of the job tells; the next run tells the rest.
const ALERTS_PER_RUN: u64 = 200;

impl Reports {
    /// The alerts of `account` about this month and today, as they were raised.
    pub async fn alerts(&self, account: AccountId) -> Result<Vec<BudgetAlert>> {
        self.ledger.settled().await;
        let now = self.clock.now();
        store::alerts_of(self.db.read(), account, [Period::Month(Month::of(now)), Period::Day(Day::of(now))]).await
    }

    /// Enqueues a webhook for each alert that was not told yet, where the owner opened [`ALERT_WEBHOOK_PATH`]; other
    /// owners read it on the pages. Returns the number of webhooks.
    ///
    /// # Errors
    /// When the database does not answer; the next run tells the remaining alerts.
    pub async fn tell_alerts(&self, instances: &Instances, webhooks: &Webhooks) -> Result<u64> {
        let Self { db, clock, .. } = self;
        let mut enqueued = 0;
        for alert in store::untold(db.read(), ALERTS_PER_RUN).await? {
            let instance = instances.by_account(alert.account_id).filter(|instance| {
                !instance.status().wish.is_closed() && webhooks.is_open(instance.id, ALERT_WEBHOOK_PATH)
            });
            let tx = db.begin().await?;
            // Another run of the job may have told it since it was read.
            if !store::mark_told(&tx, &alert, clock.now()).await? {
                continue;
            }
            let delivery = match instance {
                Some(instance) => match webhooks.enqueue_in(&tx, instance.id, webhook(&alert)).await {
                    Ok(delivery) => Some(delivery),
                    Err(IntakeError::InboxFull(sentence)) => {
                        tracing::warn!(instance.id = %instance.id, sentence, "an alert could not be enqueued as a webhook");
                        None
                    }
                    Err(IntakeError::Storage(error)) => return Err(error),
                },
                None => None,
            };
            tx.commit().await?;
            if let Some(delivery) = delivery {
                delivery.committed();
                enqueued += 1;
            }
        }
        Ok(enqueued)
    }
}

fn webhook(alert: &BudgetAlert) -> WebhookRequest {
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
    WebhookRequest {
        method: "POST".into(),
        target: ALERT_WEBHOOK_PATH.into(),
        // The second header proves the sender: `x-berth-` headers of requests from outside are removed.
        headers: vec![
            header("content-type", "application/json".into()),
            header("x-berth-quota", alert.percent.to_string()),
        ],
        body: Bytes::from(body.to_string()),
    }
}
