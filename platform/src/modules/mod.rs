//! Registration: the trait by which each module says once what it contributes to the whole platform, and the list of
//! all of them.
//!
//! `app.rs` builds the list. Scheduled work, the deletion of an account, metrics and `doctor` go through it, so a new
//! module is entered there and nowhere else. What a module registers stands in its `registration.rs`.

mod findings;
mod gauges;
mod scheduled_work;

use std::sync::Arc;

use async_trait::async_trait;
pub use findings::{Finding, Verdict};
pub use gauges::{GaugeFamily, GaugeSample};
pub use scheduled_work::{Dispatch, ScheduledWork};

use crate::clock::Timestamp;
use crate::db::{AccountId, InstanceId, Tx};
use crate::error::Result;
use crate::handle::Handle;

/// A part of the platform that owns data or does work of its own. Every method may be left out.
#[async_trait]
pub trait Module: Send + Sync {
    /// Work that is done on a schedule. `modules` is the list itself, for work that concerns every module.
    fn scheduled_work(&self, modules: &Modules) -> Vec<ScheduledWork> {
        let _ = modules;
        Vec::new()
    }

    /// Deletes the module's rows of `account` in the caller's transaction. It may be called again after a failure, so
    /// rows that are gone already are no error.
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let _ = (tx, account);
        Ok(())
    }

    /// Drops from memory what [`Module::delete_account_rows`] deleted; called after the commit.
    fn forget_account(&self, account: &DeletedAccount) {
        let _ = account;
    }

    /// Gauges for the metrics endpoint, from memory: reading them must not wake an instance or ask the database.
    fn gauges(&self, now: Timestamp) -> Vec<GaugeFamily> {
        let _ = now;
        Vec::new()
    }

    /// What `berth doctor` reports about the module's data. Changes nothing.
    async fn doctor_findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// An account at the moment it is deleted for good.
#[derive(Clone, Debug)]
pub struct DeletedAccount {
    pub id: AccountId,
    pub handle: Handle,
    /// `None` for an account that never had an instance.
    pub instance: Option<InstanceId>,
}

/// Every registered module, in the order in which an account's rows are deleted. Cheap to clone.
#[derive(Clone)]
pub struct Modules(Arc<[Arc<dyn Module>]>);

impl Modules {
    #[must_use]
    pub fn new(modules: impl IntoIterator<Item = Arc<dyn Module>>) -> Self {
        Self(modules.into_iter().collect())
    }

    /// The scheduled work of all modules.
    #[must_use]
    pub fn scheduled_work(&self) -> Vec<ScheduledWork> {
        self.0.iter().flat_map(|module| module.scheduled_work(self)).collect()
    }

    /// Deletes the rows of `account` in every module; the caller commits.
    pub async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        for module in self.0.iter() {
            module.delete_account_rows(tx, account).await?;
        }
        Ok(())
    }

    /// Drops `account` from the memory of every module.
    pub fn forget_account(&self, account: &DeletedAccount) {
        // In reverse row order: an instance is evicted before the data that depends on it, so that no request can still
        // reach, through the instance, data that is evicted already.
        for module in self.0.iter().rev() {
            module.forget_account(account);
        }
    }

    /// The gauges of all modules.
    #[must_use]
    pub fn gauges(&self, now: Timestamp) -> Vec<GaugeFamily> {
        self.0.iter().flat_map(|module| module.gauges(now)).collect()
    }

    /// The findings of all modules.
    pub async fn doctor_findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for module in self.0.iter() {
            findings.extend(module.doctor_findings().await);
        }
        findings
    }
}
