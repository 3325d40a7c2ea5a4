//! The state that all requests to instances share.

use std::sync::Arc;

use super::assertion::AssertionCache;
use super::in_flight::InFlightLimit;
use super::intake_memory::IntakeMemory;
use super::proxy::ConnectionPool;
use crate::app::App;

/// The edge of this platform. Shared by `Arc`: each request holds a reference until it ends.
pub struct Edge {
    pub(super) app: Arc<App>,
    pub(super) connections: ConnectionPool,
    pub(super) in_flight: InFlightLimit,
    pub(super) intake_memory: IntakeMemory,
    pub(super) assertions: AssertionCache,
}

impl Edge {
    /// The edge of this platform.
    #[must_use]
    pub fn new(app: App) -> Arc<Self> {
        let connections = ConnectionPool::new(app.instances.clone(), app.clock.clone());
        Arc::new(Self {
            app: Arc::new(app),
            connections,
            in_flight: InFlightLimit::default(),
            intake_memory: IntakeMemory::default(),
            assertions: AssertionCache::default(),
        })
    }
}
