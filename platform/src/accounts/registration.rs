//! Registration of accounts: scheduled jobs that purge expired rows and advance account deletions, and a one-time-code
//! secret that is tried against `BERTH_SECRET`.
//!
//! The rows of this module are not deleted through the list of modules: `deletion.rs`, which runs the list, deletes
//! them last, because the rows of other modules reference them.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::Accounts;
use crate::modules::{Module, Modules, ScheduledWork, SealedSample};

#[async_trait]
impl Module for Accounts {
    fn scheduled_work(&self, modules: &Modules) -> Vec<ScheduledWork> {
        let purge = |accounts: Self| async move { accounts.purge_expired().await };
        let modules = modules.clone();
        let advance_deletions = move |accounts: Self| {
            let modules = modules.clone();
            async move { accounts.advance_deletions(&modules).await }
        };
        vec![
            ScheduledWork::leased("purge_expired", "0 * * * * *", self, purge),
            // Earlier versions enqueued rows of this name, and one of them may run beside this version during an
            // upgrade.
            ScheduledWork::leased("see_off", "45 * * * * *", self, advance_deletions),
        ]
    }

    async fn try_sealed(&self) -> Result<SealedSample> {
        self.try_totp_secret().await
    }
}
