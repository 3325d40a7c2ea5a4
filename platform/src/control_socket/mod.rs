//! The local control socket: a Unix socket by which the operator's commands reach the running platform.
//!
//! A command commits its change to the database itself. It then sends one line with the id of the instance, so that the
//! platform reacts at once and not at its next resync: a lost line costs time and no change. Only three requests need
//! the running platform: to explain why an instance is awake, to reload the price table, and to write receipts.

mod client;
mod corrections;
mod server;

use std::time::Duration;

pub use client::{ask_why, nudge, tell_of_prices};
pub use corrections::{CorrectionOrder, correct, reprice};
pub use server::listen;

/// The actor in the audit log for what the operator does on this machine.
pub const OPERATOR: &str = "operator";

/// The line that says that the price table changed.
const PRICES: &str = "prices";
/// Prefix of the id in the query for the awake report.
const WHY: &str = "why ";
/// Timeout of a request and of its response, on either side.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
