//! Registration of the accounts: expired rows are purged, and departures take their next step.
//!
//! Their own rows of a deleted account are no part of the list: they go last, in `leaving.rs`, which runs the list.

use async_trait::async_trait;

use super::Accounts;
use crate::modules::{Module, Modules, ScheduledWork};

#[async_trait]
impl Module for Accounts {
    fn scheduled_work(&self, modules: &Modules) -> Vec<ScheduledWork> {
        let purge = |accounts: Self| async move { accounts.purge_expired().await };
        let modules = modules.clone();
        let see_off = move |accounts: Self| {
            let modules = modules.clone();
            async move { accounts.see_off(&modules).await }
        };
        vec![
            ScheduledWork::leased("purge_expired", "0 * * * * *", self, purge),
            ScheduledWork::leased("see_off", "45 * * * * *", self, see_off),
        ]
    }
}
