//! Scheduled work (cron jobs) that a module registers: a cron expression and the function to run. `ops/jobs.rs` is the
//! scheduler.

use std::sync::Arc;

use berth_ground::error::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Work that is done on a schedule. Cheap to clone.
#[derive(Clone)]
pub struct ScheduledWork {
    /// Unique among all modules, and stable between versions: rows of the jobs table refer to it.
    pub name: &'static str,
    /// Second, minute, hour, day, month, weekday (UTC).
    pub cron: &'static str,
    pub dispatch: Dispatch,
    run: Arc<dyn Fn() -> BoxFuture<'static, Result<u64>> + Send + Sync>,
}

/// How a due time leads to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// By a row in the jobs table that one process leases: at least once for each enqueued time, and never by two lease
    /// holders at once.
    Leased,
    /// By the tick itself, without a row: for frequent work that finds its own due items.
    EachTick,
}

impl ScheduledWork {
    /// Work that runs at least once for each due time, so it must be idempotent. `work` returns the number of rows it
    /// changed.
    pub fn leased<M, W, F>(name: &'static str, cron: &'static str, module: &M, work: W) -> Self
    where
        M: Clone + Send + Sync + 'static,
        W: Fn(M) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        Self::with(name, cron, Dispatch::Leased, module, work)
    }

    /// Work that runs at each tick of this process; a missed tick is not caught up.
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

    /// Runs the work once, and returns the number of rows it changed.
    pub async fn run(&self) -> Result<u64> {
        (self.run)().await
    }
}
