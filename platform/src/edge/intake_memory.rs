//! The memory of webhooks that are arriving.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bytes of all bodies that are arriving at one time.
const MAX_ARRIVING_BYTES: usize = 64 * 1024 * 1024;

/// The memory budget for arriving request bodies: a semaphore with one permit per byte.
#[derive(Clone)]
pub(super) struct IntakeMemory(pub(super) Arc<Semaphore>);

impl Default for IntakeMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_ARRIVING_BYTES)))
    }
}
