//! Registration of the domains: proofs in DNS are looked up again; those of a deleted account's instance go.

use async_trait::async_trait;

use super::Domains;
use crate::db::Tx;
use crate::error::Result;
use crate::modules::{DeletedAccount, Module, Modules, ScheduledWork};

#[async_trait]
impl Module for Domains {
    fn scheduled_work(&self, _: &Modules) -> Vec<ScheduledWork> {
        let look_again = |domains: Self| async move { domains.look_again().await };
        vec![ScheduledWork::leased("look_at_domains", "20 25 * * * *", self, look_again)]
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
