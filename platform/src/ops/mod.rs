//! What the operator needs: scheduled work, metrics, health, and the doctor.

mod doctor;
mod jobs;
mod metrics;
mod store;

pub use doctor::{Opened, examine};
pub use jobs::Jobs;
pub use metrics::{AskOutcome, EdgeOutcome, Metrics, render};
