//! The type of an instance's settings.

use std::time::Duration;

use serde::Serialize;

/// The settings of an instance that the operator may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceSettings {
    /// The name of one of the allowed images.
    pub image: String,
    /// The name of one of the sizes.
    pub size: String,
    /// These three override the idle timeouts of the size; `None`: the size's applies.
    pub freeze_after: Option<Duration>,
    pub stop_after: Option<Duration>,
    pub remove_after: Option<Duration>,
}
