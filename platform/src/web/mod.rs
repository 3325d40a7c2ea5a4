//! The HTTP layer of the apex and the app host: pages and JSON API. A handler parses the request, calls a module's
//! use-case and shows the result. `app_routes` is the table of contents: a noun is declared and its routes are joined
//! here.

mod access;
mod account;
pub mod account_deletion;
pub mod admin;
mod cookies;
mod csrf;
pub mod dashboard;
pub mod domains;
mod extractors;
mod former_addresses;
pub mod hand_off;
pub mod instance;
pub mod landing;
pub mod log_in;
pub mod own_keys;
pub mod page_head;
pub mod passkeys;
mod return_path;
mod route;
mod router;
mod sessions;
pub mod sharing;
pub mod sign_up;
pub mod usage;
pub mod webhooks;

pub use self::access::AccessLevel;
use self::access::AccessLevel::Public;
pub use self::route::Route;
use self::route::get;
pub use self::router::{apex_router, app_router};
use crate::http::assets;

/// The routes of the apex, where there are no sessions.
#[must_use]
pub fn apex_routes() -> Vec<Route> {
    vec![
        get("/", Public, landing::show),
        get("/awake", Public, landing::awake),
        get("/assets/{*path}", Public, assets::show),
    ]
}

/// The routes of the app host.
#[must_use]
pub fn app_routes() -> Vec<Route> {
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
