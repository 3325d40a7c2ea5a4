//! Registration of the alarms module: a tick every second that rings due alarms, and deletion of the alarms of a
//! deleted account's instance.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::Alarms;
use crate::db::Tx;
use crate::modules::{DeletedAccount, Module, Modules, ScheduledWork};

#[async_trait]
impl Module for Alarms {
    fn scheduled_work(&self, _: &Modules) -> Vec<ScheduledWork> {
        // No leased job: each alarm is a row with its own due time, and a row in the jobs table every second would only
        // repeat that.
        let ring = |alarms: Self| async move { alarms.ring_due().await };
        vec![ScheduledWork::each_tick("ring_alarms", "* * * * * *", self, ring)]
    }

    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let Some(instance) = account.instance else { return Ok(()) };
        self.forget_in(tx, instance).await
    }
}
