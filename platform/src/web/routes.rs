//! The route table of pages and API: method, path, access level and handler of every route. The routers are built
//! from it, and so are the tests that try every route in every role.

use super::access::AccessLevel::Public;
pub use super::route::Route;
use super::route::get;
use super::{
    account, account_deletion, admin, dashboard, domains, former_addresses, hand_off, instance, landing, log_in,
    own_keys, passkeys, sessions, sharing, sign_up, usage, webhooks,
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
    table.extend(webhooks::routes());
    table.extend(sharing::routes());
    table.extend(domains::routes());
    table.extend(admin::routes());
    table.extend(former_addresses::routes());
    table
}
