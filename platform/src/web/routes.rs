//! The route table of pages and API: method, path, access level and handler of every route. The routers are built
//! from it, and so are the tests that try every route in every role.

use super::access::AccessLevel::{Member, Public};
pub use super::route::Route;
use super::route::{get, post};
use super::{
    account, account_deletion, admin, alarms, api_mailbox, dashboard, domains, hand_off, instance, landing, log_in,
    mailbox, own_keys, passkeys, sessions, sharing, sign_up, usage,
};
use crate::http::assets;

/// The routes of the apex, where there are no sessions.
#[must_use]
pub fn apex() -> Vec<Route> {
    vec![
        get("/", Public, landing::show),
        get("/awake", Public, landing::awake),
        get("/assets/{*path}", Public, assets::show),
    ]
}

/// The routes of the app host.
#[must_use]
pub fn app() -> Vec<Route> {
    // axum panics at start when two rows have the same method and path.
    let mut table = vec![get("/assets/{*path}", Public, assets::show)];
    table.extend(sign_up::routes());
    table.extend(log_in::routes());
    table.extend(hand_off::routes());
    table.extend(dashboard::routes());
    table.extend(account::routes());
    table.extend(instance::routes());
    table.extend(sessions::routes());
    table.extend(passkeys::routes());
    table.extend(account_deletion::routes());
    table.extend(usage::routes());
    table.extend(own_keys::routes());
    table.extend(webhooks());
    table.extend(sharing::routes());
    table.extend(domains::routes());
    table.extend(admin::routes());
    table
}

/// The routes of webhooks and alarms.
fn webhooks() -> Vec<Route> {
    vec![
        get("/mailbox", Member, mailbox::show),
        post("/mailbox/paths", Member, mailbox::open),
        post("/mailbox/paths/close", Member, mailbox::close),
        post("/mailbox/letters/{id}/retry", Member, mailbox::retry),
        post("/mailbox/letters/{id}/discard", Member, mailbox::discard),
        post("/alarms/{name}/delete", Member, alarms::delete),
        get("/api/mailbox", Member, api_mailbox::show),
        post("/api/mailbox/paths", Member, api_mailbox::open),
        post("/api/mailbox/paths/close", Member, api_mailbox::close),
        post("/api/mailbox/letters/{id}/retry", Member, api_mailbox::retry),
        post("/api/mailbox/letters/{id}/discard", Member, api_mailbox::discard),
        get("/api/alarms", Member, api_mailbox::alarms),
        post("/api/alarms/{name}/delete", Member, api_mailbox::delete_alarm),
    ]
}
