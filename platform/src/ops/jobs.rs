//! Scheduled work. tokio-cron-scheduler is only the clock: it enqueues a row for each due time, and whichever process
//! leases the row does the work. So a tick that is lost is caught up, and two processes never do the same one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;

use super::store;
use crate::clock::{Clock, Timestamp};
use crate::db::Db;
use crate::modules::{Dispatch, Modules, ScheduledWork};

/// How long a process may work at a job before another may take it over.
const LEASE: Duration = Duration::from_secs(120);
/// Looked for due work at least this often, also when no tick came: what another process left undone.
const LOOK: Duration = Duration::from_secs(60);
/// Done jobs are kept this long, so that operators can check that they ran.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The worker and its clock.
#[derive(Clone)]
pub struct Jobs {
    db: Db,
    clock: Clock,
    works: Arc<[ScheduledWork]>,
    due: Arc<Notify>,
}

/// What the purge of done jobs needs.
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
        works.push(ScheduledWork::leased("purge_jobs", "30 7 3 * * *", &table, purge));
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
        while !shutdown.is_cancelled() {
            self.work_off().await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.due.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        scheduler.shutdown().await.context("stopping the scheduler")
    }

    /// Does everything that is due now.
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
        // The whole second it was due: every process's clock makes the same row, and the unique pair keeps one.
        let due = Timestamp(self.clock.now().seconds() * 1000);
        if let Err(error) = store::enqueue(&self.db, self.clock.uuid(), name, due).await {
            tracing::warn!(job = name, error = ?error, "could not enqueue scheduled work");
        }
        self.due.notify_one();
    }

    async fn next(&self) -> crate::error::Result<bool> {
        let now = self.clock.now();
        let Some((id, name)) = store::lease(&self.db, now, now.plus(LEASE)).await? else { return Ok(false) };
        let outcome = match self.works.iter().find(|work| work.name == name) {
            Some(work) => work.run().await,
            // A row of another version of Berth: were it not marked as done, it would be leased again for ever.
            None => Ok(0),
        };
        match &outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(job = %name, rows, "scheduled work done"),
            Err(error) => {
                tracing::warn!(job = %name, error = ?error, "scheduled work failed; it is tried again when its lease ends")
            }
        }
        if outcome.is_ok() {
            store::done(&self.db, id, self.clock.now()).await?;
        }
        Ok(true)
    }
}
