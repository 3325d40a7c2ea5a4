//! An alarm as it is stored and shown.

use berth_ground::clock::Timestamp;

use super::rules::Schedule;

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
