//! Registration of custom domains: the daily check of proofs, and the deletion of an account's domains.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::Domains;
use crate::db::Tx;
use crate::modules::{DeletedAccount, Module, Modules, ScheduledWork};

#[async_trait]
impl Module for Domains {
    fn scheduled_work(&self, _: &Modules) -> Vec<ScheduledWork> {
        let recheck_proofs = |domains: Self| async move { domains.recheck_proofs().await };
        // Earlier versions enqueued rows of this name, and one of them may run beside this version during an upgrade.
        vec![ScheduledWork::leased("look_at_domains", "20 25 * * * *", self, recheck_proofs)]
    }

    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let Some(instance) = account.instance else { return Ok(()) };
        self.forget_in(tx, instance).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        if let Some(instance) = account.instance {
            self.forget(instance);
        }
    }
}
