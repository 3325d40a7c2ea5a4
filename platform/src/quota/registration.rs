//! Registration of the quota: jobs that tell alerts and delete old receipts, and the consistency check of `doctor`.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::{Quota, ledger};
use crate::db::Db;
use crate::instances::Instances;
use crate::modules::{Finding, Module, Modules, ScheduledWork};
use crate::webhooks::Webhooks;

/// The quota with the modules through which alerts are told: the quota itself stands below both.
#[derive(Clone)]
pub struct QuotaModule {
    pub quota: Quota,
    pub instances: Instances,
    pub webhooks: Webhooks,
}

#[async_trait]
impl Module for QuotaModule {
    fn scheduled_work(&self, _: &Modules) -> Vec<ScheduledWork> {
        let tell =
            |module: Self| async move { module.quota.reports.tell_alerts(&module.instances, &module.webhooks).await };
        let delete_receipts = |module: Self| async move { module.quota.ledger.forget_receipts().await };
        vec![
            ScheduledWork::leased("tell_alerts", "15 * * * * *", self, tell),
            ScheduledWork::leased("forget_receipts", "40 37 3 * * *", self, delete_receipts),
        ]
    }

    async fn doctor_findings(&self) -> Vec<Finding> {
        money_findings(&self.quota.admission.db).await
    }
}

/// Whether receipts and their sums agree in `db`.
pub async fn money_findings(db: &Db) -> Vec<Finding> {
    match disagreements(db).await {
        Ok(wrong) if wrong.is_empty() => vec![Finding::fine("money", "receipts and their sums agree".into())],
        Ok(wrong) => wrong.into_iter().map(|sentence| Finding::broken("money", sentence)).collect(),
        Err(error) => vec![Finding::broken("money", error.to_string())],
    }
}

async fn disagreements(db: &Db) -> Result<Vec<String>> {
    // One snapshot: calls go on meanwhile, and must not look like disagreements.
    ledger::disagreements(&db.begin_reading().await?).await
}
