//! Scheduled work: a cron expression and the function to call; `ops` runs it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::error::Result;

/// Work that is done on a schedule. Cheap to clone.
#[derive(Clone)]
pub struct ScheduledWork {
    /// Unique among all modules. It stands in the rows of the jobs table, so it stays as it is between versions.
    pub name: &'static str,
    /// Second, minute, hour, day, month, weekday (UTC).
    pub cron: &'static str,
    pub dispatch: Dispatch,
    run: Arc<dyn Fn() -> BoxFuture<'static, Result<u64>> + Send + Sync>,
}

/// How a due time leads to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// By a row in the jobs table that one process leases: at least once for each due time, and not by two processes
    /// at the same time.
    Leased,
    /// By the tick itself, with no row: for work that determines by itself which items are due, and runs again in a
    /// second.
    EachTick,
}

impl ScheduledWork {
    /// Work that is run at least once for each due time. `work` returns how many rows it changed.
    pub fn leased<M, W, F>(name: &'static str, cron: &'static str, module: &M, work: W) -> Self
    where
        M: Clone + Send + Sync + 'static,
        W: Fn(M) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        Self::with(name, cron, Dispatch::Leased, module, work)
    }

    /// Work that is run at each tick while the process lives; a lost tick is not caught up.
    pub fn each_tick<M, W, F>(name: &'static str, cron: &'static str, module: &M, work: W) -> Self
    where
        M: Clone + Send + Sync + 'static,
        W: Fn(M) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        Self::with(name, cron, Dispatch::EachTick, module, work)
    }

    fn with<M, W, F>(name: &'static str, cron: &'static str, dispatch: Dispatch, module: &M, work: W) -> Self
    where
        M: Clone + Send + Sync + 'static,
        W: Fn(M) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        let module = module.clone();
        Self { name, cron, dispatch, run: Arc::new(move || work(module.clone()).boxed()) }
    }

    /// Does the work once; how many rows it changed.
    pub async fn run(&self) -> Result<u64> {
        (self.run)().await
    }
}
