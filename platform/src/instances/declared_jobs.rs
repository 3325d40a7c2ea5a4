//! Declared jobs: leases by which the program inside keeps its instance awake. A job ends when the program ends it,
//! when it expires, or when its container stops. The rows survive a restart of the platform.

use std::sync::Arc;
use std::time::Duration;

use berth_ground::error::{Error, Result};

use super::work::{DeclaredJob, Work};
use super::{Instance, Instances, store};

/// Maximum number of running jobs of one instance.
pub const MAX_JOBS: usize = 16;
const LONGEST_NAME: usize = 64;

impl Instances {
    /// Declares a job of `instance` that keeps it awake for at most `lasts`; a running job of the same name is
    /// extended.
    ///
    /// # Errors
    /// `Invalid` for a malformed name or a duration outside the limit; `Conflict` when the instance has the maximum
    /// number of jobs.
    pub async fn declare_job(&self, instance: &Arc<Instance>, name: &str, lasts: Duration) -> Result<DeclaredJob> {
        check_name(name)?;
        self.check_time(lasts)?;
        let now = self.0.clock.now();
        // Counted before the transaction and without a lock across it: concurrent declarations may exceed the maximum
        // by a few.
        let since = instance.with_state(|state| {
            let running = |job: &&DeclaredJob| job.until > now;
            let before = state.jobs.get(name).filter(running).map(|job| job.since);
            let room = state.jobs.values().filter(running).count() < MAX_JOBS;
            before.or(room.then_some(now))
        });
        let since = since.ok_or_else(|| {
            Error::Conflict(format!(
                "There are {MAX_JOBS} jobs already, which is as many as one instance may have. End one first."
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
        // The reconciler's timer does not know the new expiry: reconciling once arms it.
        self.nudge(instance);
        Ok(job)
    }

    /// Ends a job. The idle timeout of the instance starts now, unless other work keeps it awake.
    ///
    /// # Errors
    /// `NotFound` when no job of that name is running.
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

    /// The running jobs of `instance`, sorted by name.
    #[must_use]
    pub fn jobs(&self, instance: &Instance) -> Vec<DeclaredJob> {
        let now = self.0.clock.now();
        instance.with_state(|state| state.jobs.values().filter(|job| job.until > now).cloned().collect())
    }

    /// Deletes every job of the instance, because a declared job must not outlive the program that declared it.
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

    /// Loads every unexpired job into memory at startup.
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
