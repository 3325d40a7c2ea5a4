//! The scheduler: cron jobs as leased rows of a jobs table. tokio-cron-scheduler is only the clock: it enqueues a row
//! for each due time, and the process that leases the row does the work. So a row left behind by a crash is worked off
//! later (at least once), and two processes never hold the same lease.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::clock::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;

use super::store;
use crate::db::Db;
use crate::modules::{Dispatch, Modules, ScheduledWork};

/// Lease duration: after this another process may take the job over.
const LEASE: Duration = Duration::from_secs(120);
/// Polling interval for due rows without a tick: rows whose process crashed, or whose run failed.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// The stored name of the purge of done jobs.
pub const PURGE_JOBS: &str = "purge_jobs";
/// Retention of done jobs, so that operators can check that they ran.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The scheduler: its clock enqueues due rows, its worker leases and runs them.
#[derive(Clone)]
pub struct Jobs {
    db: Db,
    clock: Clock,
    works: Arc<[ScheduledWork]>,
    due: Arc<Notify>,
}

/// The parameters of the purge of done jobs.
#[derive(Clone)]
struct JobsTable {
    db: Db,
    clock: Clock,
}

impl Jobs {
    /// The scheduled work of `modules`, and the purge of the jobs table itself.
    #[must_use]
    pub fn new(db: Db, clock: Clock, modules: &Modules) -> Self {
        let table = JobsTable { db: db.clone(), clock: clock.clone() };
        let purge = |JobsTable { db, clock }| async move { store::purge(&db, clock.now().minus(KEEP)).await };
        let mut works = modules.scheduled_work();
        works.push(ScheduledWork::leased(PURGE_JOBS, "30 7 3 * * *", &table, purge));
        Self { db, clock, works: works.into(), due: Arc::default() }
    }

    /// Runs the clock and the worker until `shutdown`.
    ///
    /// # Errors
    /// When the clock cannot be started.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut scheduler = JobScheduler::new().await.context("starting the scheduler")?;
        for work in self.works.iter() {
            let (jobs, ticked) = (self.clone(), work.clone());
            let job = Job::new_async(work.cron, move |_, _| {
                let (jobs, work) = (jobs.clone(), ticked.clone());
                Box::pin(async move { jobs.tick(&work).await })
            })?;
            scheduler.add(job).await.with_context(|| format!("adding {} to the scheduler", work.name))?;
        }
        scheduler.start().await.context("starting the scheduler")?;
        // Jobs run one after another in this one task, so one slow job delays the others of this process.
        while !shutdown.is_cancelled() {
            self.work_off().await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.due.notified() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        scheduler.shutdown().await.context("stopping the scheduler")
    }

    /// Runs every job that is due now, until none can be leased.
    pub async fn work_off(&self) {
        loop {
            match self.next().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::warn!(error = ?error, "scheduled work could not be looked up"),
            }
        }
    }

    async fn tick(&self, work: &ScheduledWork) {
        match work.dispatch {
            Dispatch::Leased => self.enqueue(work.name).await,
            Dispatch::EachTick => {
                if let Err(error) = work.run().await {
                    tracing::warn!(job = work.name, error = ?error, "scheduled work failed; it is tried again at the next tick");
                }
            }
        }
    }

    async fn enqueue(&self, name: &'static str) {
        // Rounded down to the second, so that processes whose clocks tick together compute the same due time. The
        // unique constraint on name and time then keeps one row.
        let due = Timestamp(self.clock.now().seconds() * 1000);
        if let Err(error) = store::enqueue(&self.db, self.clock.uuid(), name, due).await {
            tracing::warn!(job = name, error = ?error, "could not enqueue scheduled work");
        }
        self.due.notify_one();
    }

    /// Leases and runs the job that has been due the longest; `false` when there is none.
    async fn next(&self) -> berth_ground::error::Result<bool> {
        let now = self.clock.now();
        let Some((id, name)) = store::lease(&self.db, now, now.plus(LEASE)).await? else { return Ok(false) };
        let outcome = match self.works.iter().find(|work| work.name == name) {
            Some(work) => work.run().await,
            // A job of another version of Berth. It is marked as done, or it would be leased again forever.
            None => Ok(0),
        };
        match &outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(job = %name, rows, "scheduled work done"),
            Err(error) => {
                tracing::warn!(job = %name, error = ?error, "scheduled work failed; it is tried again when its lease ends")
            }
        }
        // A failed run is not marked: the row is leased again when its lease expires, which is the backoff. A crash
        // between the run and the mark repeats the run, so all work must be idempotent.
        if outcome.is_ok() {
            store::done(&self.db, id, self.clock.now()).await?;
        }
        Ok(true)
    }
}
