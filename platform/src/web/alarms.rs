//! The owner's view of alarms, which the program inside sets: list them, delete one.

use axum::extract::{Path, State};
use axum::response::Redirect;
use serde_json::{Value, json};

use super::errors::Answer;
use super::extractors::Mine;
use super::words::Moment;
use crate::alarms::{Alarm, Schedule};
use crate::app::App;

/// One alarm, for the page.
pub struct AlarmRow {
    pub name: String,
    /// The cron pattern; empty for one that rings once.
    pub cron: String,
    pub path: String,
    pub next: Moment,
}

impl From<&Alarm> for AlarmRow {
    fn from(alarm: &Alarm) -> Self {
        let cron = match &alarm.schedule {
            Schedule::At(_) => String::new(),
            Schedule::Cron(pattern) => pattern.clone(),
        };
        let path = alarm.path.clone().unwrap_or_default();
        Self { name: alarm.name.clone(), cron, path, next: Moment(alarm.due) }
    }
}

/// `POST /alarms/{name}/delete`
pub async fn delete(State(app): State<App>, Mine(instance): Mine, Path(name): Path<String>) -> Answer<Redirect> {
    app.alarms.delete(instance.id, &name).await?;
    Ok(Redirect::to("/webhooks#alarms"))
}

/// An alarm in JSON, the same for the program inside and for the owner's API.
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
