//! An alarm as it is stored and shown.

use super::rules::Schedule;
use crate::clock::Timestamp;

/// An alarm that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    pub schedule: Schedule,
    /// The path at which the program receives a POST; `None`: the alarm only wakes the instance.
    pub path: Option<String>,
    pub set_at: Timestamp,
    /// When it rings next.
    pub due: Timestamp,
}
