//! The owner's view of alarms, which only the program inside can set: list and delete.

use axum::extract::{Path, State};
use axum::response::Redirect;

use crate::alarms::{Alarm, Schedule};
use crate::app::App;
use crate::http::format::Moment;
use crate::http::problem::HandlerResult;
use crate::web::extractors::OwnInstance;

/// One alarm, for the page.
pub struct AlarmRow {
    pub name: String,
    /// The cron expression; empty for a one-time alarm.
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
pub async fn delete(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(name): Path<String>,
) -> HandlerResult<Redirect> {
    app.alarms.delete(instance.id, &name).await?;
    Ok(Redirect::to("/webhooks#alarms"))
}
