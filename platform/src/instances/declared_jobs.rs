//! Jobs that an instance declares from inside. Each keeps it awake until it is ended, comes to its limit, or the
//! program that declared it has ended; a restart of the platform changes nothing about that.

use std::sync::Arc;
use std::time::Duration;

use super::work::{DeclaredJob, Work};
use super::{Instance, Instances, store};
use crate::error::{Error, Result};

/// Jobs that one instance may have declared at a time.
const MOST: usize = 16;
const LONGEST_NAME: usize = 64;

impl Instances {
    /// Takes a job down that `instance` says it is at, for `lasts` from now; one by the same name goes on.
    ///
    /// # Errors
    /// `Invalid` when the name or the time is none; `Conflict` when there are too many; when it cannot be written.
    pub async fn declare_job(&self, instance: &Arc<Instance>, name: &str, lasts: Duration) -> Result<DeclaredJob> {
        check_name(name)?;
        self.check_time(lasts)?;
        let now = self.0.clock.now();
        let since = instance.with_state(|state| {
            let running = |job: &&DeclaredJob| job.until > now;
            let before = state.jobs.get(name).filter(running).map(|job| job.since);
            let room = state.jobs.values().filter(running).count() < MOST;
            before.or(room.then_some(now))
        });
        let since = since.ok_or_else(|| {
            Error::Conflict(format!(
                "There are {MOST} jobs already, which is as many as one instance may have. End one first."
            ))
        })?;
        let job = DeclaredJob { name: name.to_owned(), since, until: now.plus(lasts) };
        let tx = self.0.db.begin().await?;
        store::put_job(&tx, instance.id, &job, now).await?;
        tx.commit().await?;
        instance.change_jobs(|jobs| {
            jobs.retain(|_, job| job.until > now);
            jobs.insert(job.name.clone(), job.clone());
        });
        // The loop knows of no end yet: it looks, and finds when to look again.
        self.nudge(instance);
        Ok(job)
    }

    /// Ends a job; from here on the instance idles, if nothing else keeps it awake.
    ///
    /// # Errors
    /// `NotFound` when none by that name is running; when it cannot be written.
    pub async fn end_job(&self, instance: &Arc<Instance>, name: &str) -> Result<()> {
        let now = self.0.clock.now();
        if !self.jobs(instance).iter().any(|job| job.name == name) {
            return Err(Error::NotFound);
        }
        let tx = self.0.db.begin().await?;
        store::delete_job(&tx, instance.id, name).await?;
        tx.commit().await?;
        instance.work.moved(Work::Job, now);
        instance.change_jobs(|jobs| jobs.remove(name));
        instance.look_when_idle();
        Ok(())
    }

    /// The jobs of `instance` that run, by name.
    #[must_use]
    pub fn jobs(&self, instance: &Instance) -> Vec<DeclaredJob> {
        let now = self.0.clock.now();
        instance.with_state(|state| state.jobs.values().filter(|job| job.until > now).cloned().collect())
    }

    /// Nothing that was declared outlives the program that declared it.
    pub(super) async fn forget_jobs(&self, instance: &Arc<Instance>) -> Result<()> {
        if instance.with_state(|state| state.jobs.is_empty()) {
            return Ok(());
        }
        let tx = self.0.db.begin().await?;
        store::delete_jobs(&tx, instance.id).await?;
        tx.commit().await?;
        instance.change_jobs(|jobs| jobs.clear());
        Ok(())
    }

    /// Reads all jobs into memory, at the start.
    pub(super) async fn learn_jobs(&self) -> Result<()> {
        for (id, job) in store::all_jobs(&self.0.db, self.0.clock.now()).await? {
            if let Some(instance) = self.by_id(id) {
                instance.change_jobs(|jobs| jobs.insert(job.name.clone(), job));
            }
        }
        Ok(())
    }

    fn check_time(&self, lasts: Duration) -> Result<()> {
        let most = self.0.job_limit.as_secs();
        if lasts.is_zero() || lasts.as_secs() > most {
            let message =
                format!("for_seconds is from 1 to {most}. Declare a longer job again before it comes to its end.");
            return Err(Error::invalid("for_seconds", message));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        let message = format!("A job's name has 1 to {LONGEST_NAME} letters, digits, dots, hyphens and underscores.");
        return Err(Error::invalid("name", message));
    }
    Ok(())
}
