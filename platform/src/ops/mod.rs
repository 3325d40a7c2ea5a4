//! Operations: the scheduler of leased jobs, Prometheus metrics, the check of `BERTH_SECRET`, and the checks of `berth
//! doctor`.

mod doctor;
mod jobs;
mod metrics;
mod secret_check;
mod store;

pub use doctor::{Opened, StartFailure, examine};
pub use jobs::{Jobs, PURGE_JOBS};
pub use metrics::{AskOutcome, EdgeOutcome, Metrics, render};
pub use secret_check::{SecretMatch, compare_secret, confirm_secret, refuse_other_secret};
