//! The weekly budget of first certificates (a token bucket): decides when each instance's name may get its certificate.
//! It keeps Berth within the rate limit of the certificate authority, which otherwise refuses every request of the
//! domain, renewals included.
//!
//! Caddy obtains and stores the certificates. It first calls the `ask` endpoint, which answers from this module's
//! memory.

mod registration;
mod rules;
mod store;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::Result;
use berth_ground::handle::Handle;
pub use registration::DOCTOR_SUBJECT;
pub use rules::BudgetUsage;
use rules::WeeklyBudget;

use crate::db::Db;

/// Fixed backoff between attempts to store a reservation.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// Attempts to store a reservation, together ten minutes.
const MOST_ATTEMPTS: u32 = 60;

/// The module's interface. Clones share one state. `None` when certificates come from an own CA or a wildcard: then
/// there is no limit.
#[derive(Clone)]
pub struct Certificates(Option<Arc<CertificatesInner>>);

struct CertificatesInner {
    db: Db,
    clock: Clock,
    reservations: Mutex<Reservations>,
}

struct Reservations {
    budget: WeeklyBudget,
    /// The time from which each name may get its certificate.
    ready_at: HashMap<Handle, Timestamp>,
}

impl Certificates {
    /// Loads the stored reservations. `weekly` is the number of first certificates in a week; `None` for no limit.
    pub async fn open(db: Db, clock: Clock, weekly: Option<NonZeroU32>) -> Result<Self> {
        let Some(weekly) = weekly else { return Ok(Self(None)) };
        let reservations = Mutex::new(load(&db, weekly).await?);
        Ok(Self(Some(Arc::new(CertificatesInner { db, clock, reservations }))))
    }

    /// Reserves a certificate for the name and returns the time from which it may be issued. Idempotent: the first call
    /// takes a place in the queue, and later calls return the same time.
    pub fn reserve(&self, handle: &Handle) -> Timestamp {
        let Some(inner) = &self.0 else { return Timestamp(0) };
        let mut reservations = inner.reservations();
        if let Some(ready_at) = reservations.ready_at.get(handle) {
            return *ready_at;
        }
        let ready_at = reservations.budget.take(inner.clock.now());
        reservations.ready_at.insert(handle.clone(), ready_at);
        drop(reservations);
        // Not awaited, because `ask` must answer within milliseconds even while the database is busy, and not tracked:
        // shutdown does not wait for it. A reservation that is lost with the process is made again by the next `ask`,
        // at worst for a later time; the budget then counts one certificate too few, which its margin covers.
        tokio::spawn(persist(Arc::clone(inner), handle.clone(), ready_at));
        ready_at
    }

    /// Whether a certificate for the name may be issued now. Reserves one for a new name.
    pub fn may_issue_now(&self, handle: &Handle) -> bool {
        let ready_at = self.reserve(handle);
        self.0.as_ref().is_none_or(|inner| ready_at <= inner.clock.now())
    }

    /// The time from which the name may get its certificate, if it is in the future. Reserves nothing.
    #[must_use]
    pub fn ready_at(&self, handle: &Handle) -> Option<Timestamp> {
        let inner = self.0.as_ref()?;
        let (reservations, now) = (inner.reservations(), inner.clock.now());
        let ready_at = reservations.ready_at.get(handle).copied().unwrap_or_else(|| reservations.budget.next(now));
        (ready_at > now).then_some(ready_at)
    }

    /// Whether first certificates are limited.
    #[must_use]
    pub fn are_counted(&self) -> bool {
        self.0.is_some()
    }

    /// The used part of the budget; `None` without a limit.
    #[must_use]
    pub fn usage(&self) -> Option<BudgetUsage> {
        let inner = self.0.as_ref()?;
        Some(inner.reservations().budget.usage(inner.clock.now()))
    }
}

impl CertificatesInner {
    fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(db: &Db, weekly: NonZeroU32) -> Result<Reservations> {
    let mut reservations = Reservations { budget: WeeklyBudget::new(weekly), ready_at: HashMap::new() };
    // Replayed in the order of their times, which restores the state of the bucket (shown by a property test).
    for (handle, ready_at) in store::all(db).await? {
        reservations.budget.take(ready_at);
        reservations.ready_at.insert(handle, ready_at);
    }
    Ok(reservations)
}

/// Stores a reservation, with retries at a fixed delay.
async fn persist(inner: Arc<CertificatesInner>, handle: Handle, ready_at: Timestamp) {
    // The retries are bounded because names may be reserved at any time: a database outage must not accumulate tasks
    // without limit. After the last attempt the reservation stays in memory, and is lost at a restart.
    for _ in 0..MOST_ATTEMPTS {
        match store::add(&inner.db, &handle, ready_at).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%handle, %error, "could not store the reservation of a certificate"),
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}
