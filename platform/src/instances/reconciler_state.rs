//! The state of the reconciler's loop.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64};

use berth_ground::clock::Timestamp;
use tokio::sync::Notify;

use crate::db::InstanceId;

/// The state of the loop: which instances are being driven, and which nudges are pending.
#[derive(Default)]
pub(super) struct ReconcilerState {
    /// The instances that a task drives now; true when a nudge arrived meanwhile.
    pub(super) driving: Mutex<HashMap<InstanceId, bool>>,
    /// Notified whenever a driver task ends.
    pub(super) quiet: Notify,
    /// Set in the process that runs the loop. Other processes (the operator's commands) only write wishes.
    pub(super) begun: AtomicBool,
    /// Orphans by the time of their first sighting.
    pub(super) orphans: Mutex<HashMap<InstanceId, Timestamp>>,
    /// When the timers were last checked, to detect a clock that was set back.
    pub(super) looked_at_ms: AtomicI64,
}
