//! Registration of webhooks: gauges of waiting deliveries and dead letters, and deletion of an account's paths and
//! inbox.

use async_trait::async_trait;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;

use super::Webhooks;
use crate::db::Tx;
use crate::modules::{DeletedAccount, GaugeFamily, Module};

#[async_trait]
impl Module for Webhooks {
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let Some(instance) = account.instance else { return Ok(()) };
        self.forget_in(tx, instance).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        if let Some(instance) = account.instance {
            self.forget(instance);
        }
    }

    fn gauges(&self, _: Timestamp) -> Vec<GaugeFamily> {
        let counts = self.total_counts();
        let samples = [("waiting", counts.waiting), ("dead_letter", counts.dead_letters)]
            .map(|(state, count)| (state, i64::try_from(count).unwrap_or(i64::MAX)));
        vec![GaugeFamily::by_label("webhook_deliveries", "Webhook deliveries in inboxes, by state", "state", samples)]
    }
}
