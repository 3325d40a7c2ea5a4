//! The local control socket: a Unix socket by which the operator's commands reach the running platform.
//!
//! A command writes its wish to the database itself; what it sends is one line that names the instance, so that the
//! platform acts at once and not at its next round. Three things only the running platform can do, so they are asked
//! for here: to say why an instance is awake, to read a changed price table again, and to write receipts.

mod client;
mod corrections;
mod server;

use std::time::Duration;

pub use client::{ask_why, nudge, tell_of_prices};
pub use corrections::{CorrectionOrder, correct, rerate};
pub use server::listen;

/// The actor in the audit log for what the operator does on this machine.
pub const OPERATOR: &str = "operator";

/// In place of an id: the price table changed.
const PRICES: &str = "prices";
/// Before the id: the question why the instance is awake.
const WHY: &str = "why ";
/// For a request and its answer, on either side.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
