//! The account's own instance: status, live updates, wake, sleep, stop, upgrade and additional ports.

mod actions;
mod api;
pub mod awake_view;
mod events;
pub mod ports;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, get, post, put};

/// The routes of the instance.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/instance/events", Member, events::events),
        post("/instance/wake", Member, actions::wake),
        post("/instance/sleep", Member, actions::sleep),
        post("/instance/stop", Member, actions::stop),
        post("/instance/upgrade", Member, actions::upgrade),
        get("/api/instance", Member, api::instance),
        post("/api/instance/wake", Member, api::wake),
        post("/api/instance/sleep", Member, api::sleep),
        post("/api/instance/stop", Member, api::stop),
        post("/api/instance/upgrade", Member, api::upgrade),
        get("/api/instance/ports", Member, ports::show),
        put("/api/instance/ports", Member, ports::replace),
    ]
}
