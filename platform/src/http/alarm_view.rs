//! The JSON representation of an alarm: the same in the owner's API and in the API inside the instance.

use serde_json::{Value, json};

use super::format::Moment;
use crate::alarms::{Alarm, Schedule};

/// An alarm as JSON.
#[must_use]
pub fn view(alarm: &Alarm) -> Value {
    let mut view = json!({ "name": alarm.name, "next": Moment(alarm.due), "set_at": Moment(alarm.set_at) });
    match &alarm.schedule {
        Schedule::At(at) => view["at"] = json!(Moment(*at)),
        Schedule::Cron(pattern) => view["cron"] = json!(pattern),
    }
    if let Some(path) = &alarm.path {
        view["path"] = json!(path);
    }
    view
}
