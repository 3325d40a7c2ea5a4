//! The clock and the random generator: the only place where time and randomness enter the program, so that tests
//! control both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A moment in UTC, in milliseconds since the Unix epoch. Stored as an integer: SQLite would sort RFC 3339 text with
/// mixed offsets wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `by` later; the last representable one where that overflows.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment `by` earlier; the first representable one where that overflows.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is the later of the two.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        // The host's clock may be set back between two readings, so a negative difference is no error and counts as
        // none.
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn seconds(self) -> i64 {
        // Rounded towards the past also before 1970, so that a second never spans two thousand milliseconds.
        self.0.div_euclid(1000)
    }
}

/// The source of time and of random bytes. Passed to every module; cloning it is cheap, and clones of a manual clock
/// share its time.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The host's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(ClockSource::System)
    }

    /// A clock that stands still at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(ClockSource::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where time enters")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            ClockSource::System => Timestamp(
                // A host whose clock stands before 1970 counts as at 1970: later arithmetic relies on no negative
                // moments.
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            ),
            ClockSource::Manual(at) => Timestamp(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward. Does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        if let ClockSource::Manual(at) = &self.0 {
            at.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock back, as NTP or an operator may do to a host's. Does nothing to the system clock.
    pub fn turn_back(&self, by: Duration) {
        if let ClockSource::Manual(at) = &self.0 {
            at.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// A point on the monotonic clock, for measuring durations. The same for a manual clock: what a test measures is
    /// real.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where time enters")]
    pub fn monotonic(&self) -> Instant {
        Instant::now()
    }

    /// `N` bytes from the thread's CSPRNG, which the operating system seeds: fit for keys and tokens.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where randomness enters")]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        rand::rng().fill_bytes(&mut bytes);
        bytes
    }

    /// A random id (UUID version 4). It discloses nothing about the time or place of its creation.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random()).into_uuid()
    }

    /// A time-ordered id (UUID version 7): milliseconds first, random bits after them. For tables that grow large and
    /// have a public creation time: an index appends such ids at its end and does not split pages in its middle.
    #[must_use]
    pub fn ordered_uuid(&self) -> Uuid {
        let ms = u64::try_from(self.now().0).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(ms, &self.random()).into_uuid()
    }
}
