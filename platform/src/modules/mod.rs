//! The module registry: the trait by which each module registers its scheduled work, account deletion, metrics and
//! doctor checks, and the list of all modules.
//!
//! `app.rs` builds the list. Scheduled work, account deletion, metrics and `doctor` iterate over it, so a new module is
//! entered there and nowhere else. Each module implements the trait in its `registration.rs`.

mod findings;
mod gauges;
mod scheduled_work;

use std::sync::Arc;

use async_trait::async_trait;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
pub use findings::{Finding, Verdict};
pub use gauges::{GaugeFamily, GaugeSample};
pub use scheduled_work::{Dispatch, ScheduledWork};

use crate::db::{AccountId, InstanceId, Tx};

/// A part of the platform that owns data or does scheduled work. Every method has an empty default.
#[async_trait]
pub trait Module: Send + Sync {
    /// The module's scheduled work. `modules` is the list itself, for work that concerns every module.
    fn scheduled_work(&self, modules: &Modules) -> Vec<ScheduledWork> {
        let _ = modules;
        Vec::new()
    }

    /// Deletes the module's rows of `account` in the caller's transaction. Must be idempotent: it is called again after
    /// a failure.
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let _ = (tx, account);
        Ok(())
    }

    /// Evicts the rows deleted by [`Module::delete_account_rows`] from the module's caches; called after the commit.
    fn forget_account(&self, account: &DeletedAccount) {
        let _ = account;
    }

    /// Gauges for the metrics endpoint, from memory: reading them must not wake an instance or ask the database.
    fn gauges(&self, now: Timestamp) -> Vec<GaugeFamily> {
        let _ = now;
        Vec::new()
    }

    /// Tries to decrypt the oldest value that the module stores encrypted with the keys derived from `BERTH_SECRET`.
    async fn try_sealed(&self) -> Result<SealedSample> {
        Ok(SealedSample::Absent)
    }

    /// What `berth doctor` reports about the module's data. Changes nothing.
    async fn doctor_findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// An encrypted value of a module, and whether the keys of this process decrypt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedSample {
    /// The module stores no encrypted value.
    Absent,
    Opens,
    DoesNotOpen,
}

/// An account whose deletion is due.
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
    /// The registry of `modules`, in the order in which their rows are deleted.
    pub fn new(modules: impl IntoIterator<Item = Arc<dyn Module>>) -> Self {
        Self(modules.into_iter().collect())
    }

    /// The scheduled work of all modules.
    #[must_use]
    pub fn scheduled_work(&self) -> Vec<ScheduledWork> {
        self.0.iter().flat_map(|module| module.scheduled_work(self)).collect()
    }

    /// Deletes the rows of `account` in every module, in order; the caller commits.
    pub async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        for module in self.0.iter() {
            module.delete_account_rows(tx, account).await?;
        }
        Ok(())
    }

    /// Evicts `account` from the caches of every module.
    pub fn forget_account(&self, account: &DeletedAccount) {
        // In reverse order: the instance is evicted before the data that depends on it, so that no request can still
        // reach evicted data through the instance.
        for module in self.0.iter().rev() {
            module.forget_account(account);
        }
    }

    /// The gauges of all modules.
    #[must_use]
    pub fn gauges(&self, now: Timestamp) -> Vec<GaugeFamily> {
        self.0.iter().flat_map(|module| module.gauges(now)).collect()
    }

    /// The encrypted samples of all modules.
    pub async fn sealed_samples(&self) -> Result<Vec<SealedSample>> {
        let mut samples = Vec::new();
        for module in self.0.iter() {
            samples.push(module.try_sealed().await?);
        }
        Ok(samples)
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
