//! Polling with a deadline: the one place where tests sleep until a condition holds.
//!
//! Events that the fixture can await, such as a watch channel or a held fault point, need no polling.

use std::time::Duration;

use berth_ground::clock::Clock;

/// The limit for changes that take milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A bounded wait: the limit, and the pause between two attempts.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    limit: Duration,
    pause: Duration,
}

impl Wait {
    /// A wait of at most `limit`, with 5 ms between two attempts.
    pub const fn within(limit: Duration) -> Self {
        Self { limit, pause: Duration::from_millis(5) }
    }

    /// The same wait with `pause` between two attempts, for attempts that start a process or ask a browser.
    #[must_use]
    pub const fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The first value that `attempt` returned within the limit. An attempt that hangs is given up at the limit.
    pub async fn value<T>(self, mut attempt: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        let polling = async {
            loop {
                if let Some(value) = attempt().await {
                    return value;
                }
                tokio::time::sleep(self.pause).await;
            }
        };
        tokio::time::timeout(self.limit, polling).await.ok()
    }

    /// Whether `holds` returned true within the limit.
    pub async fn succeeds(self, mut holds: impl AsyncFnMut() -> bool) -> bool {
        self.value(async || holds().await.then_some(())).await.is_some()
    }

    /// Waits until `holds` returns true.
    ///
    /// # Panics
    /// At the limit, with `what` in the message.
    pub async fn until(self, what: &str, holds: impl AsyncFnMut() -> bool) {
        assert!(self.succeeds(holds).await, "waited {:?} in vain until {what}", self.limit);
    }

    /// Like [`Wait::succeeds`], on a thread that may block. An attempt that hangs is not given up.
    pub fn succeeds_blocking(self, mut holds: impl FnMut() -> bool) -> bool {
        let began = Clock::system().monotonic();
        loop {
            if holds() {
                return true;
            }
            if began.elapsed() >= self.limit {
                return false;
            }
            std::thread::sleep(self.pause);
        }
    }
}

/// Waits up to [`PATIENCE`] until `attempt` returns a value.
///
/// # Panics
/// At the limit, with `what` in the message.
pub async fn eventually_some<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let value = Wait::within(PATIENCE).value(attempt).await;
    value.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Waits up to [`PATIENCE`] until `holds` returns true; `what` completes the sentence "waited in vain until ...".
///
/// # Panics
/// At the limit.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    Wait::within(PATIENCE).until(what, holds).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_its_condition_or_at_its_limit() {
        let mut attempts = 0;
        eventually("the third attempt", async || {
            attempts += 1;
            attempts == 3
        })
        .await;
        assert_eq!(attempts, 3);
        let wait = Wait::within(Duration::from_millis(20));
        assert!(!wait.succeeds(async || false).await);
        assert!(!wait.succeeds(async || std::future::pending().await).await);
    }
}
