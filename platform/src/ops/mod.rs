//! Operations: the scheduler of leased jobs, Prometheus metrics, and the checks of `berth doctor`.

mod doctor;
mod jobs;
mod metrics;
mod store;

pub use doctor::{Opened, StartFailure, examine};
pub use jobs::{Jobs, PURGE_JOBS};
pub use metrics::{AskOutcome, EdgeOutcome, Metrics, render};
