//! Webhooks and alarms: open paths, deliveries, dead letters, and the alarms that the program inside has set.

pub mod alarms;
mod api;
pub mod card;
pub mod delivery_view;
pub mod page;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, delete, get, post};

/// The routes of webhooks and alarms.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/webhooks", Member, page::show),
        post("/webhooks/paths", Member, page::open),
        post("/webhooks/paths/close", Member, page::close),
        post("/webhooks/deliveries/{id}/retry", Member, page::retry),
        post("/webhooks/deliveries/{id}/discard", Member, page::discard),
        post("/alarms/{name}/delete", Member, alarms::delete),
        get("/api/webhooks", Member, api::show),
        get("/api/webhooks/paths", Member, api::paths),
        post("/api/webhooks/paths", Member, api::open),
        delete("/api/webhooks/paths/{*path}", Member, api::close),
        get("/api/webhooks/deliveries", Member, api::deliveries),
        post("/api/webhooks/deliveries/{id}/retry", Member, api::retry),
        delete("/api/webhooks/deliveries/{id}", Member, api::discard),
        get("/api/alarms", Member, api::alarms),
        delete("/api/alarms/{name}", Member, api::delete_alarm),
    ]
}
