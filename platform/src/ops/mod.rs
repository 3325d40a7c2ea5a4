//! What the operator needs: scheduled work, metrics, health, and the doctor.

mod doctor;
mod jobs;
mod metrics;
mod rules;
mod store;

pub use doctor::{Finding, Verdict, examine};
pub use jobs::{Jobs, Works};
pub use metrics::{AskOutcome, EdgeOutcome, Metrics, render};
