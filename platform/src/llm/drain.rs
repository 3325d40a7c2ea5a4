//! Draining: after a client disconnect, the upstream is read on to its usage frame, so that a disconnect does not make
//! tokens free.
//!
//! Providers send the usage last, and charge for reasoning that the client has not seen. Without draining, a client
//! could disconnect just before the usage frame and get the reasoning for nothing. Drains are limited in number and
//! time, and discard the bytes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::billed_stream::BilledStream;

/// The limit of concurrent drains, and of their duration. Cheap to clone.
#[derive(Clone)]
pub struct DrainLimit {
    slots: Arc<Semaphore>,
    timeout: Duration,
}

impl DrainLimit {
    #[must_use]
    pub fn new(most: usize, timeout: Duration) -> Self {
        Self { slots: Arc::new(Semaphore::new(most)), timeout }
    }

    /// A limit of zero drains: for calls under the caller's own key, where draining would only add to the caller's
    /// bill.
    #[must_use]
    pub fn none() -> Self {
        Self::new(0, Duration::ZERO)
    }

    /// Awaits `future` in a drain slot. `None` when no slot is free, or when the timeout passes first.
    pub async fn run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let _slot = self.slots.try_acquire().ok()?;
        tokio::time::timeout(self.timeout, future).await.ok()
    }

    /// Drains `stream` on a task of its own. If that is not possible, `stream` is dropped, and its drop settles the
    /// hold.
    pub fn drain(&self, mut stream: BilledStream) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // When its usage is known, dropping the stream settles it exactly.
        if stream.is_settled() || stream.has_figures() {
            return;
        }
        let limit = self.clone();
        runtime.spawn(async move {
            if limit.run(stream.read_to_figures()).await.is_none() {
                tracing::info!("the usage of a call did not come in time after its client had disconnected");
            }
        });
    }
}
