//! Registration of the instances module: gauges by fact, and deletion of the rows of a deleted account's instance.

use std::collections::BTreeMap;

use async_trait::async_trait;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;

use super::Instances;
use crate::db::Tx;
use crate::modules::{DeletedAccount, GaugeFamily, Module};

#[async_trait]
impl Module for Instances {
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let Some(instance) = account.instance else { return Ok(()) };
        self.forget_in(tx, instance).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        if let Some(instance) = account.instance {
            self.forget(instance);
        }
    }

    fn gauges(&self, now: Timestamp) -> Vec<GaugeFamily> {
        let mut by_fact: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut stuck = 0;
        for status in self.all().iter().map(|instance| instance.status()) {
            *by_fact.entry(status.fact.as_str()).or_default() += 1;
            stuck += i64::from(status.is_stuck(now));
        }
        vec![
            GaugeFamily::by_label("instances", "Instances, by what was last seen of them", "fact", by_fact),
            GaugeFamily::single("instances_stuck", "Instances on their way for more than five minutes", stuck),
        ]
    }
}
