//! Alerts: an account is told once when four fifths of an allowance are spent, and once when all of it is.
//!
//! They are raised in the transaction that books what was spent, so none is missed; their webhooks are enqueued later by a
//! job, each in the transaction that notes it, so none is written twice.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::json;

use crate::clock::Timestamp;
use crate::db::{AccountId, Tx};
use crate::error::Result;
use crate::instances::Instances;
use crate::quota::ledger::writer::Over;
use crate::quota::{Alert, Inner, Quota, calendar, store};
use crate::webhooks::{IntakeError, WebhookRequest, Webhooks};

/// Where a program is told, once its owner has opened that path.
pub const ALERT_WEBHOOK_PATH: &str = "/_berth/quota";
/// Of an allowance, in percent.
const THRESHOLDS: [i64; 2] = [80, 100];
/// Alerts that are told in one go; those left are told in the next.
const AT_ONCE: u64 = 200;

/// Raises what is due after `batch` was booked. Only for periods that were not over when the calls were.
pub async fn raise(tx: &Tx, batch: &[Over]) -> Result<()> {
    let mut months: HashSet<(AccountId, &str)> = HashSet::new();
    let mut days: HashMap<(AccountId, &str), i64> = HashMap::new();
    let mut now = Timestamp(0);
    for over in batch {
        let (account, (period, day), at) = (over.account(), over.booked_on(), over.at());
        now = now.max(at);
        if period == calendar::period(at) {
            months.insert((account, period));
        }
        if let Some(allowance) = over.day_allowance_nanodollars
            && day == calendar::day(at)
        {
            days.insert((account, day), allowance);
        }
    }
    let mut due = Vec::new();
    for (account, period, allowance, spent) in store::spent_in_months(tx, &months).await? {
        if months.contains(&(account, &*period)) {
            due.extend(reached(account, &period, (allowance, spent), now));
        }
    }
    for (account, day, spent) in store::spent_in_days(tx, days.keys()).await? {
        if let Some(allowance) = days.get(&(account, &*day)) {
            due.extend(reached(account, &day, (*allowance, spent), now));
        }
    }
    store::raise(tx, due).await
}

/// The alerts of `period` whose threshold `spent` has reached.
fn reached(account: AccountId, period: &str, (allowance, spent): (i64, i64), now: Timestamp) -> Vec<Alert> {
    let is_reached =
        |percent: i64| spent > 0 && i128::from(spent) * 100 >= i128::from(allowance.max(0)) * i128::from(percent);
    let raised = THRESHOLDS.into_iter().filter(|percent| is_reached(*percent)).map(|percent| Alert {
        account_id: account,
        period: period.to_owned(),
        percent,
        allowance_nanodollars: allowance,
        spent_nanodollars: spent,
        raised_at_ms: now.0,
        told_at_ms: None,
    });
    raised.collect()
}

impl Alert {
    /// Whether it is about a month, and not about a day.
    #[must_use]
    pub fn is_of_month(&self) -> bool {
        self.period.len() == "2026-11".len()
    }
}

impl Quota {
    /// The alerts of `account` about this month and today, as they were raised.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alerts(&self, account: AccountId) -> Result<Vec<Alert>> {
        self.settled().await;
        let now = self.0.clock.now();
        store::alerts_of(self.0.db.read(), account, [calendar::period(now), calendar::day(now)]).await
    }

    /// Enqueues a webhook for each alert that was not told yet, where its owner opened [`ALERT_WEBHOOK_PATH`]; elsewhere the pages
    /// tell alone. How many webhooks.
    ///
    /// # Errors
    /// When the database does not answer: what is left is told the next time.
    pub async fn tell_alerts(&self, instances: &Instances, webhooks: &Webhooks) -> Result<u64> {
        let Inner { db, clock, .. } = &*self.0;
        let mut enqueued = 0;
        for alert in store::untold(db.read(), AT_ONCE).await? {
            let instance = instances.by_account(alert.account_id).filter(|instance| {
                !instance.status().wish.is_closed() && webhooks.is_open(instance.id, ALERT_WEBHOOK_PATH)
            });
            let tx = db.begin().await?;
            if !store::told(&tx, &alert, clock.now()).await? {
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

fn webhook(alert: &Alert) -> WebhookRequest {
    let body = json!({
        "span": if alert.is_of_month() { "month" } else { "day" },
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
        // Nobody else can send the second: what comes from outside has such names removed.
        headers: vec![
            header("content-type", "application/json".into()),
            header("x-berth-quota", alert.percent.to_string()),
        ],
        body: Bytes::from(body.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_to_the_nanodollar() {
        let account = AccountId(uuid::Uuid::from_u128(1));
        let percents = |allowance, spent| {
            let raised = reached(account, "2026-11", (allowance, spent), Timestamp(0));
            raised.iter().map(|alert| alert.percent).collect::<Vec<_>>()
        };
        for (allowance, spent, want) in [
            (5_000_000_000, 3_999_999_999, &[][..]),
            (5_000_000_000, 4_000_000_000, &[80]),
            (5_000_000_000, 4_999_999_999, &[80]),
            (5_000_000_000, 5_000_000_000, &[80, 100]),
            (i64::MAX, i64::MAX, &[80, 100]),
            (0, 0, &[]),
            (0, 1, &[80, 100]),
        ] {
            assert_eq!(percents(allowance, spent), want, "{spent} of {allowance}");
        }
    }
}
