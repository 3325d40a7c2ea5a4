//! Scheduled work. tokio-cron-scheduler is only the clock: it enqueues a row for each due time, and whichever process
//! leases the row does the work. So a tick that is lost is caught up, and two processes never do the same one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;

use super::rules::{EVERY_SECOND, Kind, SCHEDULE};
use super::store;
use crate::accounts::Accounts;
use crate::alarms::Alarms;
use crate::clock::{Clock, Timestamp};
use crate::db::Db;
use crate::domains::Domains;
use crate::instances::Instances;
use crate::mailbox::Mailbox;
use crate::quota::Quota;

/// How long a process may work at a job before another may take it over.
const LEASE: Duration = Duration::from_secs(120);
/// Looked for due work at least this often, also when no tick came: what another process left undone.
const LOOK: Duration = Duration::from_secs(60);
/// Done jobs are kept this long, for whoever wants to see that they ran.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The worker and its clock.
#[derive(Clone)]
pub struct Jobs {
    db: Db,
    clock: Clock,
    works: Works,
    due: Arc<Notify>,
}

/// The rooms in which something is done on a schedule.
#[derive(Clone)]
pub struct Works {
    pub accounts: Accounts,
    pub alarms: Alarms,
    pub domains: Domains,
    pub quota: Quota,
    pub instances: Instances,
    pub mailbox: Mailbox,
}

impl Jobs {
    #[must_use]
    pub fn new(db: Db, clock: Clock, works: Works) -> Self {
        Self { db, clock, works, due: Arc::default() }
    }

    /// Runs the clock and the worker until `shutdown`.
    ///
    /// # Errors
    /// When the clock cannot be started.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut scheduler = JobScheduler::new().await.context("starting the scheduler")?;
        for (kind, cron) in SCHEDULE {
            let jobs = self.clone();
            let job = Job::new_async(cron, move |_, _| {
                let jobs = jobs.clone();
                Box::pin(async move { jobs.enqueue(kind).await })
            })?;
            scheduler.add(job).await.context("adding a job to the scheduler")?;
        }
        let jobs = self.clone();
        let every_second = Job::new_async(EVERY_SECOND, move |_, _| {
            let jobs = jobs.clone();
            Box::pin(async move { jobs.ring_alarms().await })
        })?;
        scheduler.add(every_second).await.context("adding the alarms to the scheduler")?;
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

    async fn enqueue(&self, kind: Kind) {
        // The whole second it was due: every process's clock makes the same row, and the unique pair keeps one.
        let due = Timestamp(self.clock.now().seconds() * 1000);
        if let Err(error) = store::enqueue(&self.db, self.clock.uuid(), kind, due).await {
            tracing::warn!(job = kind.word(), error = ?error, "could not enqueue scheduled work");
        }
        self.due.notify_one();
    }

    /// Alarms are rows of their own, each with its time: they need no job beside them, only somebody who looks.
    async fn ring_alarms(&self) {
        if let Err(error) = self.works.alarms.ring_due().await {
            tracing::warn!(error = ?error, "alarms could not be rung; they ring later");
        }
    }

    async fn next(&self) -> crate::error::Result<bool> {
        let now = self.clock.now();
        let Some((id, kind)) = store::lease(&self.db, now, now.plus(LEASE)).await? else { return Ok(false) };
        let outcome = match Kind::of_word(&kind) {
            Some(Kind::PurgeExpired) => self.works.accounts.purge_expired().await,
            Some(Kind::AdvanceDeletions) => self.works.accounts.advance_deletions().await,
            Some(Kind::LookAtDomains) => self.works.domains.recheck_proofs().await,
            Some(Kind::TellAlerts) => self.works.quota.tell_alerts(&self.works.instances, &self.works.mailbox).await,
            Some(Kind::ForgetReceipts) => self.works.quota.forget_receipts().await,
            Some(Kind::PurgeJobs) => store::purge(&self.db, now.minus(KEEP)).await,
            // A job of another version of Berth: done is better than for ever due.
            None => Ok(0),
        };
        match &outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(job = %kind, rows, "scheduled work done"),
            Err(error) => {
                tracing::warn!(job = %kind, error = ?error, "scheduled work failed; it is tried again when its lease ends")
            }
        }
        if outcome.is_ok() {
            store::done(&self.db, id, self.clock.now()).await?;
        }
        Ok(true)
    }
}
